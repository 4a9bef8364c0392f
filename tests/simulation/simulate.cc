// Simulates the core, in many random histories: see kUsage.
#include <sys/personality.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "tests/simulation/world.h"

constexpr char kUsage[] = R"(simulate [--histories N] [--steps N] [--seed N]

Simulates the core, dispatcher and supervisor, in many random histories and checks what must always be true.

--histories N   how many [300]
--steps N       events of each [10000]
--seed N        of the first; each has the next one [1]. What was wrong is told with its seed:
                simulate --histories 1 --seed N shows it again

Exit code: 0, 1 if something was wrong, 2 for a usage error.
)";

int main(int argc, char** argv) {
  // Hash tables of abseil order their entries by where they are in memory: that must be the same again, too.
  if (personality(0xffffffff) != -1 && (personality(0xffffffff) & ADDR_NO_RANDOMIZE) == 0 &&
      personality(personality(0xffffffff) | ADDR_NO_RANDOMIZE) != -1) {
    execv("/proc/self/exe", argv);
  }
  uint64_t histories = 300, steps = 10000, seed = 1;
  for (int i = 1; i < argc; i += 2) {
    if (strcmp(argv[i], "--help") == 0) {
      fputs(kUsage, stdout);
      return 0;
    }
    uint64_t* value = strcmp(argv[i], "--histories") == 0 ? &histories
                      : strcmp(argv[i], "--steps") == 0   ? &steps
                      : strcmp(argv[i], "--seed") == 0    ? &seed
                                                          : nullptr;
    if (value == nullptr || i + 1 == argc || !absl::SimpleAtoi(argv[i + 1], value)) {
      fputs(kUsage, stderr);
      return 2;
    }
  }
  dirty::simulation::Figures figures;
  const auto start = std::chrono::steady_clock::now();
  int bad = 0;
  for (uint64_t i = 0; i < histories && bad < 10; ++i) {
    dirty::simulation::World world(seed + i, figures);
    if (std::string wrong = world.Live(steps); !wrong.empty()) {
      printf("seed %llu: %s\n", static_cast<unsigned long long>(seed + i), wrong.c_str());
      ++bad;
    }
  }
  const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  printf("%s", absl::StrCat(figures.histories, " histories, ", figures.steps, " steps, ", figures.calls, " calls in ",
                            absl::FormatDuration(absl::Trunc(figures.time, absl::Minutes(1))), " of simulated time, ",
                            took, " s\noutcomes: ", absl::StrJoin(figures.outcomes, ", ", absl::PairFormatter(" ")),
                            "\nfaults: ", absl::StrJoin(figures.faults, ", ", absl::PairFormatter(" ")), "\n")
                   .c_str());
  return bad == 0 ? 0 : 1;
}
