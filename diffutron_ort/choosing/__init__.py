"""Decide among given answers by their likelihoods."""
