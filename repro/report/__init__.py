"""What a person reads: tables and figures of the recorded runs, put together as Markdown pages and one HTML file."""
