"""What every page uses: styles, scripts, template tags."""
