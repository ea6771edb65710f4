"""Why a document could not be extracted.

ExtractionError
├── CorruptDocument         corrupt_document          permanent
├── UnsupportedContentType  unsupported_content_type  permanent
├── DocumentEncrypted       document_encrypted        permanent
├── EmptyDocument           empty_document            permanent
├── DocumentTooLarge        document_too_large        permanent
├── ExtractionTimeout       extraction_timeout        permanent
├── ExtractionOutOfMemory   extraction_out_of_memory  permanent
├── DocumentUnreadable      document_unreadable       transient: the stored file could not be opened
├── ExtractionInterrupted   extraction_interrupted    transient: the process was killed from outside
└── ExtractionUnconfined    extraction_unconfined     transient: the kernel gives less confinement than is required

A permanent error says something about the document: the same bytes fail again. A transient one says something about
the machine. `kind` chooses the sentence for a format; `detail` is for logs only and may hold a parser's own words.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar


class ExtractionError(Exception):
    code: ClassVar[str] = "extraction_failed"
    permanent: ClassVar[bool] = True
    sentence: ClassVar[str] = "The document could not be read."
    sentences: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init__(self, kind: str = "", *, detail: str = "") -> None:
        self.kind = kind
        self.detail = detail
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """A sentence for the person who uploaded the document."""
        return self.sentences.get(self.kind, self.sentence)


class CorruptDocument(ExtractionError):
    code = "corrupt_document"
    sentence = "The file is damaged and cannot be read."
    sentences = MappingProxyType(
        {
            "pdf": "The PDF is damaged and cannot be opened.",
            "docx": "The Word document is damaged and cannot be opened.",
            "pptx": "The presentation is damaged and cannot be opened.",
            "xlsx": "The spreadsheet is damaged and cannot be opened.",
            "opendocument": "The OpenDocument file is damaged and cannot be opened.",
            "epub": "The e-book is damaged and cannot be opened.",
            "rtf": "The rich text file is damaged and cannot be opened.",
            "message": "The e-mail message is damaged and cannot be opened.",
            "json": "The JSON file is damaged and cannot be read.",
            "notebook": "The notebook is damaged and cannot be opened.",
            "xml": "The XML file is damaged and cannot be read.",
            "nested": "The document is nested too deeply to be read.",
            "unsafe": "The document contains XML declarations that are refused for safety.",
            "archive": "The file is a damaged archive and cannot be opened.",
        }
    )


class UnsupportedContentType(ExtractionError):
    code = "unsupported_content_type"
    sentence = "This kind of file is not supported. Upload a text, a PDF, or an Office or OpenDocument file."
    sentences = MappingProxyType(
        {
            "doc": "Old Word files (.doc) are not supported. Save the document as .docx and upload it again.",
            "xls": "Old Excel files (.xls) are not supported. Save the workbook as .xlsx and upload it again.",
            "ppt": "Old PowerPoint files (.ppt) are not supported. Save the presentation as .pptx and upload it again.",
            "message": "Outlook messages (.msg) are not supported. Save the message as .eml and upload that.",
            "xlsb": "Binary workbooks (.xlsb) are not supported. Save the workbook as .xlsx and upload it again.",
            "drawing": "Drawings are not supported. Save the drawing as PDF and upload that.",
            "postscript": "PostScript files (.ps) are not supported. Convert the document to PDF and upload that.",
            "iwork": "Files of Pages, Numbers and Keynote are not supported. Export the document as PDF or .docx.",
            "archive": "The file is an archive, not a document. Upload the documents inside it.",
            "xfa": "The PDF is an XFA form, which only Adobe Reader shows. Print it to a PDF and upload that.",
            "portfolio": "The PDF is a portfolio of other files. Upload the files inside it.",
            "image": "Pictures are not supported. Upload a PDF or text with the words in the picture.",
            "media": "Audio and video files are not supported. Upload a transcript as text.",
            "program": "Programs are not supported. Upload a text, a PDF, or an Office or OpenDocument file.",
            "database": "Database files are not supported. Export the data as text and upload that.",
            "binary": "The file is not text. Upload a text, a PDF, or an Office or OpenDocument file.",
        }
    )


class DocumentEncrypted(ExtractionError):
    code = "document_encrypted"
    sentence = "The document is protected by a password. Remove the password and upload it again."


class EmptyDocument(ExtractionError):
    code = "empty_document"
    sentence = "The document contains no text."
    sentences = MappingProxyType(
        {
            "file": "The file is empty.",
            "pdf": "The PDF contains no text. It may be a scan: pages that are only pictures cannot be searched.",
        }
    )


class DocumentTooLarge(ExtractionError):
    code = "document_too_large"
    sentence = "The document contains more text than can be indexed."
    sentences = MappingProxyType({"unpacked": "The document unpacks to more data than is allowed."})


class ExtractionTimeout(ExtractionError):
    code = "extraction_timeout"
    sentence = "Reading the document took too long."


class ExtractionOutOfMemory(ExtractionError):
    code = "extraction_out_of_memory"
    sentence = "Reading the document needed too much memory."


class DocumentUnreadable(ExtractionError):
    code = "document_unreadable"
    permanent = False
    sentence = "The stored file could not be opened."


class ExtractionInterrupted(ExtractionError):
    code = "extraction_interrupted"
    permanent = False
    sentence = "Reading the document was interrupted."


class ExtractionUnconfined(ExtractionError):
    """Also raised when a pool starts: `str` then tells an operator what is missing and which setting decides."""

    code = "extraction_unconfined"
    permanent = False
    sentence = "Documents cannot be read safely on this machine."

    def __str__(self) -> str:
        return (
            f"{self.sentence} Missing: {self.detail}. "
            "Set QUARRY_INDEXING_EXTRACTION_CONFINEMENT=best_effort to read them anyway."
        )


ERRORS: Mapping[str, type[ExtractionError]] = MappingProxyType(
    {
        error.code: error
        for error in (
            CorruptDocument,
            UnsupportedContentType,
            DocumentEncrypted,
            EmptyDocument,
            DocumentTooLarge,
            ExtractionTimeout,
            ExtractionOutOfMemory,
            DocumentUnreadable,
            ExtractionInterrupted,
            ExtractionUnconfined,
        )
    }
)
