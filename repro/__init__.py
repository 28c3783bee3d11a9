"""Reproduces and cross-examines *Meta Pseudo Labels* (Pham et al. 2021, arXiv 2003.10580)."""
