"""The report of a run: one HTML file without network, scripts or other files, also after a failure.

facts.py gathers what is known as plain data, flow.py, talks.py and claims.py judge it, page.py and charts.py draw it.
"""
