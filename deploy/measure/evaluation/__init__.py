"""What each way to enlarge a picture costs and keeps, measured on a folder of originals."""
