# The metrics: their text, what the dispatcher records, and the server that scrapers ask. Traces: what is one.
dirty_test(NAME metrics_test SOURCES metrics_test.cc metrics_server_test.cc LIBS dirty::core)
