"""The original text's application: its apps under the names that it calls them by, and its views."""
