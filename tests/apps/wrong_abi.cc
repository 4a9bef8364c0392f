// A library that was built for another dirty/app.h. Its list of classes must not be called.

#include <cstddef>
#include <cstdlib>

extern "C" const char* dirty_app_abi() { return "dirty/app.h 0, libstdc++ cxx11=1, nlohmann_json 2.0.0"; }

extern "C" const void* dirty_app_classes(std::size_t*) { abort(); }
