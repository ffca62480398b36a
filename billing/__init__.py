"""Money: accounts, holds, transfers, limits; nothing else in the house moves a balance."""
