"""Pages: single files that open from the disk; their templates, styles and scripts are in ``assets``."""
