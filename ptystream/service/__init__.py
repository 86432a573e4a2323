"""The one place that knows every stage: it joins them, live or offline."""
