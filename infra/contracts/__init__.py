"""The contracts between services, as documents: made from `shared.events`, never written by hand."""
