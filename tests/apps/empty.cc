// A library that is no app: it has no DIRTY_APP.

extern "C" int NotAnApp() { return 1; }
