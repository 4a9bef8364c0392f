// thumbnail-client SOURCE_FOLDER TARGET_FOLDER [SIZE]: thumbnails every picture of a folder, all at once, through
// dirtyd, and prints sizes and times. An example of dirty::client.
//
// The socket is that of $DIRTY_SOCKET, else dirtyd's default. Exit codes: 0 all done, 1 some failed, 2 usage.

#include <dirty/client.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Json = dirty::client::Json;

constexpr int kUsage = 2;

double Milliseconds(std::chrono::nanoseconds time) { return std::chrono::duration<double, std::milli>(time).count(); }

std::string Read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<fs::path> PicturesIn(const fs::path& folder) {
  std::vector<fs::path> pictures;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const fs::path suffix = entry.path().extension();
    if (suffix == ".jpg" || suffix == ".jpeg" || suffix == ".png" || suffix == ".webp")
      pictures.push_back(entry.path());
  }
  std::sort(pictures.begin(), pictures.end());
  return pictures;
}

// A call that is under way.
struct Started {
  fs::path picture;
  std::size_t bytes;
  dirty::client::Call call;
};

// Waits for one call, saves its thumbnail into `target` and prints a line. False: it failed.
bool Finish(Started& started, const fs::path& target) {
  const std::string name = started.picture.filename().string();
  const dirty::client::Result result = started.call.Get();
  if (!result.ok()) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), result.error().message.c_str());
    return false;
  }
  const std::string& thumbnail =
      result->attachments.at(dirty::client::AttachmentNumber(result->result["image"]).value());
  std::ofstream file(target / name, std::ios::binary);
  file.write(thumbnail.data(), static_cast<std::streamsize>(thumbnail.size()));
  if (!file.flush()) {
    std::fprintf(stderr, "cannot write %s\n", (target / name).c_str());
    return false;
  }
  std::printf("%-14s %7zu -> %6zu bytes  %4d x %-4d waited %6.1f ms, ran %6.1f ms, on worker %u\n", name.c_str(),
              started.bytes, thumbnail.size(), result->result["width"].get<int>(), result->result["height"].get<int>(),
              Milliseconds(result->queued_time), Milliseconds(result->run_time), result->worker_id);
  return true;
}

int Run(const fs::path& source, const fs::path& target, int size) {
  const dirty::client::Client client;
  const auto start = Clock::now();

  std::vector<Started> calls;
  for (const fs::path& picture : PicturesIn(source)) {
    std::string bytes = Read(picture);
    const std::size_t length = bytes.size();
    dirty::client::CallOptions options;
    options.timeout = std::chrono::seconds(30);
    options.attachments.push_back(std::move(bytes));
    calls.push_back(
        {picture, length,
         client.ExecuteAsync("libthumbnail.so:Thumbnail", "thumbnail", Json::array({dirty::client::Attachment(0)}),
                             {{"size", size}}, std::move(options))});
  }

  std::size_t done = 0;
  for (Started& call : calls) done += Finish(call, target);
  std::printf("%zu of %zu pictures in %.1f ms\n", done, calls.size(), Milliseconds(Clock::now() - start));
  return done == calls.size() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  int size = 128;
  const std::string_view text = argc == 4 ? argv[3] : "128";
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
  if (argc < 3 || argc > 4 || error != std::errc() || end != text.data() + text.size()) {
    std::fputs("usage: thumbnail-client SOURCE_FOLDER TARGET_FOLDER [SIZE]\n", stderr);
    return kUsage;
  }
  try {
    fs::create_directories(argv[2]);
    return Run(argv[1], argv[2], size);
  } catch (const std::exception& failure) {  // a folder that cannot be read or made
    std::fprintf(stderr, "thumbnail-client: %s\n", failure.what());
    return 1;
  }
}
