"""What one GPU makes of mnemos and of its peers, within eight minutes and with nothing downloaded: `make gpu`."""
