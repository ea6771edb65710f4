"""What a Word document (.docx) consists of: styles, numbers, equations and text.

`services.indexing.pipeline.formats.docx` reads one with them.
"""
