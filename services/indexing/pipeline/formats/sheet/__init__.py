"""What a spreadsheet (.xlsx) consists of: shared strings, and numbers that its styles show as dates or shares.

`services.indexing.pipeline.formats.xlsx` reads one with them.
"""
