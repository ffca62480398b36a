"""The landing page and the overview: pages that look into several rooms."""
