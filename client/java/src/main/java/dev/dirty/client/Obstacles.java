package dev.dirty.client;

import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Map;

/** Why a socket cannot be connected to, in words that tell what to do. */
final class Obstacles {
  static final int LONGEST_PATH = 107;

  private Obstacles() {}

  /** What {@code error} of connecting to {@code path} means. */
  static String whyNot(String path, Throwable error) {
    Path socket = Path.of(path);
    try {
      Map<String, Object> file = Files.readAttributes(socket, "unix:*");
      if (!Files.isWritable(socket)) {
        return "permission denied: " + whoMay(file) + "; " + advice(file);
      }
    } catch (NoSuchFileException absent) {
      return "absent";
    } catch (AccessDeniedException denied) {
      return "permission denied: " + folderAbove(socket);
    } catch (IOException other) {
      boolean possible = Files.isDirectory(socket.toAbsolutePath().getParent());
      return possible ? other.getMessage() : "absent";
    }
    String text = String.valueOf(error.getMessage());
    if (text.contains("refused")) {
      return "nobody is listening";
    }
    return text.contains("temporarily unavailable")
        ? "busy: too many connections wait to be accepted"
        : text;
  }

  static String tooLong(int bytes) {
    return "too long: " + bytes + " bytes, a socket's path has at most " + LONGEST_PATH;
  }

  /** dirtyd closed the connection without a word. */
  static String refusedAtAccept() {
    Map<String, Object> self = self();
    return String.format(
        "accepted and closed at once: check allow_uids and allow_gids of dirtyd, you are uid %s (%s), gid %s (%s)",
        self.get("uid"), self.get("owner"), self.get("gid"), self.get("group"));
  }

  private static String advice(Map<String, Object> file) {
    if ((mode(file) & 0020) == 0) {
      return "its socket_mode lets only its owner in";
    }
    return Integer.valueOf(0).equals(file.get("gid"))
        ? "set socket_group to a group of yours"
        : "join group " + file.get("group");
  }

  /** Some folder above may not be searched: the outermost such one is the obstacle. */
  private static String folderAbove(Path socket) {
    Path absolute = socket.toAbsolutePath();
    for (int names = 1; names < absolute.getNameCount(); names++) {
      Path folder = absolute.getRoot().resolve(absolute.subpath(0, names));
      if (!Files.isExecutable(folder)) {
        try {
          return "folder " + folder + " is " + whoMay(Files.readAttributes(folder, "unix:*"));
        } catch (IOException hidden) {
          break;
        }
      }
    }
    return "you are uid " + self().get("uid");
  }

  /** {@code dirty:dirty 0660, you are uid 33} */
  private static String whoMay(Map<String, Object> file) {
    return String.format(
        "%s:%s %04o, you are uid %s",
        file.get("owner"), file.get("group"), mode(file) & 07777, self().get("uid"));
  }

  private static int mode(Map<String, Object> file) {
    return (Integer) file.get("mode");
  }

  /** Who this process is: the owner of its own folder in /proc. */
  private static Map<String, Object> self() {
    try {
      return Files.readAttributes(Path.of("/proc/self"), "unix:uid,gid,owner,group");
    } catch (IOException noProc) {
      return Map.of();
    }
  }
}
