"""What every room shares: errors, files, structures, grids, measures, the review record."""
