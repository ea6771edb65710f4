"""What a Word document (.docx) consists of: the package, its styles, numbers, equations, drawings and text.

`services.indexing.pipeline.formats.docx` reads one with them.
"""
