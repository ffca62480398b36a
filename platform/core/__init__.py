"""What every room may use and what knows no room: ids, money, errors, outbound calls, the database server."""
