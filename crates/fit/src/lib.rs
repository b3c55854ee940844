//! From stored measurements to laws, predictions, metrics and charts. Nothing here measures.
