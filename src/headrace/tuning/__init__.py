"""What is chosen by measurement after training: features, widths, cuts, searches."""
