# The links to workers, which the test plays.
dirty_test(NAME links_test SOURCES links_test.cc LIBS dirty::server PCH)
