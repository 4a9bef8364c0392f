// The floor of two hops: a client sends SIZE bytes, a relay passes them on to a worker, which sends them back the same
// way. Three processes, Unix sockets, blocking reads and writes, no protocol.
//
// bench-relay SIZE SECONDS: prints {"calls": N, "p50_us": X, "p99_us": Y} of one caller that waits for each answer.

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kWarmUpShare = 5 };  // a fifth of the time comes before, and does not count

static void Die(const char* what) {
  perror(what);
  exit(1);
}

static uint64_t Now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// All of it; 0: the other side has gone.
static int ReadAll(int fd, char* data, size_t size) {
  while (size > 0) {
    ssize_t count = read(fd, data, size);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return 0;
    data += count;
    size -= (size_t)count;
  }
  return 1;
}

static int WriteAll(int fd, const char* data, size_t size) {
  while (size > 0) {
    ssize_t count = write(fd, data, size);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return 0;
    data += count;
    size -= (size_t)count;
  }
  return 1;
}

// Reads a whole message before it is passed on, as whatever routes by content must.
static void Pass(int from, int to, char* data, size_t size) {
  if (!ReadAll(from, data, size) || !WriteAll(to, data, size)) exit(0);
}

static void Worker(int relay, char* data, size_t size) {
  for (;;) Pass(relay, relay, data, size);
}

static void Relay(int client, int worker, char* data, size_t size) {
  for (;;) {
    Pass(client, worker, data, size);
    Pass(worker, client, data, size);
  }
}

static int Compare(const void* a, const void* b) {
  const uint64_t x = *(const uint64_t*)a, y = *(const uint64_t*)b;
  return x < y ? -1 : x > y;
}

static void Client(int relay, char* data, size_t size, double seconds) {
  size_t room = 1 << 16, calls = 0;
  uint64_t* times = malloc(room * sizeof(*times));
  const uint64_t begin = Now();
  const uint64_t counts_from = begin + (uint64_t)(seconds * 1e9 / kWarmUpShare);
  const uint64_t end = counts_from + (uint64_t)(seconds * 1e9);
  for (uint64_t start = begin; start < end || calls == 0;) {
    if (!WriteAll(relay, data, size) || !ReadAll(relay, data, size)) Die("relay");
    const uint64_t now = Now();
    if (start >= counts_from) {
      if (calls == room) times = realloc(times, (room *= 2) * sizeof(*times));
      if (times == NULL) Die("memory");
      times[calls++] = now - start;
    }
    start = now;
  }
  qsort(times, calls, sizeof(*times), Compare);
  printf("{\"calls\": %zu, \"p50_us\": %.3f, \"p99_us\": %.3f}\n", calls, (double)times[calls / 2] / 1e3,
         (double)times[calls - calls / 100 - 1] / 1e3);
  free(times);
}

// Runs `role` in a process of its own that ends with this one.
#define SPAWN(role)                            \
  do {                                         \
    const pid_t pid = fork();                  \
    if (pid < 0) Die("fork");                  \
    if (pid == 0) {                            \
      prctl(PR_SET_PDEATHSIG, SIGKILL);        \
      role;                                    \
    }                                          \
  } while (0)

int main(int argc, char** argv) {
  const long size = argc == 3 ? atol(argv[1]) : 0;
  const double seconds = argc == 3 ? atof(argv[2]) : 0;
  if (size <= 0 || seconds <= 0) {
    fprintf(stderr, "bench-relay SIZE SECONDS\n");
    return 2;
  }
  char* data = calloc(1, (size_t)size);
  int near[2], far[2];
  if (data == NULL || socketpair(AF_UNIX, SOCK_STREAM, 0, near) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, far) != 0) {
    Die("sockets");
  }
  SPAWN((close(near[0]), close(near[1]), close(far[0]), Worker(far[1], data, (size_t)size)));
  SPAWN((close(near[0]), close(far[1]), Relay(near[1], far[0], data, (size_t)size)));
  close(near[1]);
  close(far[0]);
  close(far[1]);
  Client(near[0], data, (size_t)size, seconds);
  close(near[0]);  // the others end
  free(data);
  while (wait(NULL) > 0) continue;
  return 0;
}
