package dev.dirty.client;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** A real dirtyd of a test's own, with the apps of tests/python. */
final class Dirtyd implements AutoCloseable {
  /** How long anything may take that is waited for. */
  static final long PATIENCE_SECONDS = 60;

  private final Path folder;
  private final List<String> lines = new ArrayList<>();
  private Process process;

  /** Not started yet. */
  Dirtyd() throws IOException {
    folder = Files.createTempDirectory("dirty");
  }

  /** Ready, with {@code calls:Calls} on 4 slots. */
  static Dirtyd ready() throws Exception {
    Dirtyd dirtyd = new Dirtyd();
    dirtyd.start();
    return dirtyd;
  }

  Path socket() {
    return folder.resolve("run/dirty.sock");
  }

  /** Starts it, with further flags, and waits until it is ready. */
  void start(String... flags) throws Exception {
    String apps = System.getenv("DIRTY_ROOT") + "/tests/python/apps";
    List<String> command =
        new ArrayList<>(
            List.of(System.getenv("DIRTY_BUILD") + "/bin/dirtyd", "calls:Calls", "--threads=4"));
    command.addAll(List.of("--kill_after=1", "--runtime_dir=" + folder.resolve("run")));
    command.addAll(List.of("--chdir=" + apps, "--python=" + System.getenv("DIRTY_PYTHON")));
    command.addAll(List.of(flags));
    synchronized (lines) {
      lines.clear();
    }
    process = new ProcessBuilder(command).start();
    Process started = process;
    Thread reader = new Thread(() -> read(started));
    reader.setDaemon(true);
    reader.start();
    waitForLine(" ready: ");
  }

  private void read(Process from) {
    try (BufferedReader log =
        new BufferedReader(
            new InputStreamReader(from.getErrorStream(), StandardCharsets.UTF_8))) {
      for (String line = log.readLine(); line != null; line = log.readLine()) {
        synchronized (lines) {
          lines.add(line);
          lines.notifyAll();
        }
      }
    } catch (IOException gone) {
      // So is its log.
    }
  }

  /** Until its log has a line with this in it. */
  void waitForLine(String text) throws InterruptedException {
    long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS);
    synchronized (lines) {
      while (!hasLine(text)) {
        long left = TimeUnit.NANOSECONDS.toMillis(until - System.nanoTime());
        if (left <= 0) {
          throw new AssertionError(
              "no line has \"" + text + "\":\n" + String.join("\n", lines));
        }
        lines.wait(left);
      }
    }
  }

  boolean hasLine(String text) {
    synchronized (lines) {
      return lines.stream().anyMatch(line -> line.contains(text));
    }
  }

  /** Sends it a signal, such as {@code KILL}. */
  void signal(String name) throws IOException {
    new ProcessBuilder("kill", "-s", name, Long.toString(process.pid())).start().onExit().join();
  }

  /** Ends it with a signal. */
  void end(String signal) throws IOException {
    signal(signal);
    process.onExit().join();
  }

  @Override
  public void close() throws IOException {
    if (process != null && process.isAlive()) {
      signal("CONT");
      process.destroy();
      process.onExit().join();
    }
    try (Stream<Path> all = Files.walk(folder)) {
      all.sorted(Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
    }
  }
}
