"""Reading untrusted XML: as a stream of events, by names that do not depend on namespace variants."""
