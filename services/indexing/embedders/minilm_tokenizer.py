"""The tokenizer of MiniLM: BERT's for text without capitals (arXiv 1810.04805), with the word pieces of that model.

They are in `wordpieces.txt`, one a line, by number: the vocabulary that Google published with BERT (Apache-2.0).
"""

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

_BEGIN, _END, _UNKNOWN = "[CLS]", "[SEP]", "[UNK]"


def tokenizer(max_tokens: int) -> Tokenizer:
    """Ids of a text's pieces between those of its begin and end, at most `max_tokens` in all. Nothing in a text stands
    for either."""
    lines = Path(__file__).with_name("wordpieces.txt").read_text(encoding="utf-8").splitlines()
    pieces = {piece: number for number, piece in enumerate(lines)}
    made = Tokenizer(WordPiece(pieces, unk_token=_UNKNOWN))
    made.normalizer = BertNormalizer()
    made.pre_tokenizer = BertPreTokenizer()
    made.post_processor = TemplateProcessing(
        single=f"{_BEGIN} $A {_END}", special_tokens=[(name, pieces[name]) for name in (_BEGIN, _END)]
    )
    made.enable_truncation(max_tokens)
    return made
