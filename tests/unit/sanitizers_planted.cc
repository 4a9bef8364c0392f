// A program with the fault that is asked for: sanitizers_planted leak|stale|overflow|race. The sanitizers' own test.

#include <string>
#include <thread>

namespace {

// Volatile: compilers must not see what is wrong.
volatile int grows = 2147483647;
void* volatile kept;
int shared;

int Fault(const std::string& fault) {
  if (fault == "leak") {
    kept = new char[4321];
    kept = nullptr;
  } else if (fault == "stale") {
    kept = new int(1);
    delete static_cast<int*>(kept);
    return *static_cast<int*>(kept) == 2 ? 1 : 0;
  } else if (fault == "overflow") {
    int sum = grows;
    sum += 1;
    grows = sum;
  } else if (fault == "race") {
    std::thread other([] { ++shared; });
    ++shared;
    other.join();
  } else {
    return 2;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return argc == 2 ? Fault(argv[1]) : 2; }
