// libthumbnail.so:Thumbnail makes small pictures of large ones: JPEG, PNG and WebP, on libvips.
//
//   thumbnail(image, size=128, format=the picture's own)
//       -> {"image": {"$attachment": 0}, "format": "jpeg", "width": 128, "height": 85}
//   info(image)
//       -> {"format": "jpeg", "width": 960, "height": 640, "bytes": 30177}
//
// `image` is a reference to an attachment, {"$attachment": N}. `size` is the longer side of the result in pixels. A
// picture that was stored turned (EXIF) is turned upright, colours become sRGB, metadata is dropped; where JPEG has no
// transparency, white shows through.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vips/vips8>

#include "arguments.h"
#include "dirty/app.h"

namespace {

constexpr int kDefaultSize = 128;
constexpr int kMaxSize = 4096;

// A few kilobytes of a picture can unfold to gigabytes of pixels: what would is refused from its header, before
// anything is decoded. Interlaced and progressive pictures are held whole, at up to 8 bytes a pixel.
constexpr int64_t kMaxPixels = 100'000'000;

struct Format {
  const char* name;    // as in arguments and results
  const char* suffix;  // selects libvips' encoder
  const char* loader;  // libvips' class of decoders
};
constexpr std::array<Format, 3> kFormats{{
    {"jpeg", ".jpg", "VipsForeignLoadJpeg"},
    {"png", ".png", "VipsForeignLoadPng"},
    {"webp", ".webp", "VipsForeignLoadWebp"},
}};

[[noreturn]] void BadPicture(std::string_view why) {
  throw dirty::Error("BadPictureError", "cannot read the picture: " + std::string(why));
}

// libvips' reasons are lines, the innermost first, in one buffer for all threads: taken and emptied here.
std::string FirstLine(const vips::VError& error) {
  vips_error_clear();
  const std::string_view lines = error.what();
  return lines.empty() ? "its data is damaged" : std::string(lines.substr(0, lines.find('\n')));
}

const Format& FormatNamed(const std::string& name) {
  for (const Format& format : kFormats) {
    if (name == format.name) return format;
  }
  throw dirty::Error("ValueError", "thumbnail: 'format' must be jpeg, png or webp, not '" + name + "'");
}

// A picture whose header was read; its pixels are not decoded yet. Borrows the bytes.
struct Picture {
  const Format* format;
  std::string_view bytes;
  int width;   // upright
  int height;  // upright
};

Picture Open(std::string_view bytes) {
  if (bytes.empty()) BadPicture("it is empty");
  const char* found = vips_foreign_find_load_buffer(bytes.data(), bytes.size());
  const std::string_view loader = found == nullptr ? "" : found;
  const auto format =
      std::find_if(kFormats.begin(), kFormats.end(), [&](const Format& f) { return loader.starts_with(f.loader); });
  vips_error_clear();
  if (format == kFormats.end()) BadPicture("it is not JPEG, PNG or WebP");
  try {
    const vips::VImage header = vips::VImage::new_from_buffer(bytes.data(), bytes.size(), "");
    if (int64_t{header.width()} * header.height() > kMaxPixels) {
      throw dirty::Error("PictureTooLargeError", "the picture has " + std::to_string(header.width()) + " x " +
                                                     std::to_string(header.height()) + " pixels, more than " +
                                                     std::to_string(kMaxPixels));
    }
    const bool lying = vips_image_get_orientation_swap(header.get_image());
    return {&*format, bytes, lying ? header.height() : header.width(), lying ? header.width() : header.height()};
  } catch (const vips::VError& error) {
    BadPicture(FirstLine(error));
  }
}

// While it lives, work on `image` ends early with an error when the call is cancelled.
class StopWhenCancelled {
 public:
  StopWhenCancelled(const vips::VImage& image, const dirty::Context& context) : image_(image), context_(context) {
    vips_image_set_progress(image_.get_image(), TRUE);
    handler_ = g_signal_connect(image_.get_image(), "eval", G_CALLBACK(&StopWhenCancelled::OnProgress), this);
  }
  ~StopWhenCancelled() { g_signal_handler_disconnect(image_.get_image(), handler_); }
  StopWhenCancelled(const StopWhenCancelled&) = delete;
  StopWhenCancelled& operator=(const StopWhenCancelled&) = delete;

 private:
  // On one of libvips' threads.
  static void OnProgress(VipsImage* image, VipsProgress*, StopWhenCancelled* self) {
    if (self->context_.cancelled()) vips_image_set_kill(image, TRUE);
  }

  vips::VImage image_;
  const dirty::Context& context_;
  gulong handler_;
};

struct FreeBlob {
  void operator()(VipsBlob* blob) const { vips_area_unref(VIPS_AREA(blob)); }
};
using Blob = std::unique_ptr<VipsBlob, FreeBlob>;

}  // namespace

// One instance a worker. Holds no state of its own: Call() runs on `threads` threads at once.
class Thumbnail : public dirty::App {
 public:
  void Init() override {
    if (VIPS_INIT("thumbnail") != 0) throw dirty::Error("InitError", vips_error_buffer());
    // Parallelism is the arbiter's business: one thread a call. Pictures do not come twice: nothing is cached.
    vips_concurrency_set(1);
    vips_cache_set_max(0);
    // What users upload meets three decoders and none of the many others.
    vips_operation_block_set("VipsForeignLoad", TRUE);
    for (const Format& format : kFormats) vips_operation_block_set(format.loader, FALSE);
    // What is wrong with a picture is told to the caller; libvips would also log it, a line for each broken tile.
    g_log_set_handler(
        "VIPS", G_LOG_LEVEL_WARNING, [](const char*, GLogLevelFlags, const char*, void*) {}, nullptr);
  }

  dirty::Json Call(std::string_view action, const dirty::Json& args, const dirty::Json& kwargs,
                   dirty::Context& context) override {
    if (action == "thumbnail") return MakeThumbnail({action, {"image", "size", "format"}, args, kwargs}, context);
    if (action == "info") return Info({action, {"image"}, args, kwargs}, context);
    throw dirty::Error("AttributeError", "there is no action '" + std::string(action) + "': thumbnail, info");
  }

 private:
  static dirty::Json MakeThumbnail(const Arguments& arguments, dirty::Context& context) {
    const int size = arguments.Integer("size", kDefaultSize, 1, kMaxSize);
    const std::string format_name = arguments.Text("format");
    const Format* format = format_name.empty() ? nullptr : &FormatNamed(format_name);
    const Picture picture = Open(context.Bytes(arguments.Required("image")));
    if (format == nullptr) format = picture.format;
    context.ThrowIfCancelled();

    try {
      // A truncated picture would become a half grey one. libvips 8.14 reads `fail_on` here only as a loader's option.
      const Blob source(vips_blob_new(nullptr, picture.bytes.data(), picture.bytes.size()));
      const vips::VImage small = vips::VImage::thumbnail_buffer(source.get(), size,
                                                                vips::VImage::option()
                                                                    ->set("height", size)
                                                                    ->set("size", VIPS_SIZE_BOTH)
                                                                    ->set("export_profile", "srgb")
                                                                    ->set("option_string", "[fail_on=error]"));
      const StopWhenCancelled stop(small, context);
      void* data = nullptr;
      size_t length = 0;
      vips::VOption* options = vips::VImage::option()->set("strip", true);
      if (std::strcmp(format->name, "jpeg") == 0) options->set("background", 255);
      small.write_to_buffer(format->suffix, &data, &length, options);
      const std::unique_ptr<void, decltype(&g_free)> owned(data, g_free);
      return {{"image", context.Attach(std::string(static_cast<const char*>(data), length))},
              {"format", format->name},
              {"width", small.width()},
              {"height", small.height()}};
    } catch (const vips::VError& error) {
      const std::string why = FirstLine(error);
      context.ThrowIfCancelled();
      BadPicture(why);
    }
  }

  static dirty::Json Info(const Arguments& arguments, dirty::Context& context) {
    const Picture picture = Open(context.Bytes(arguments.Required("image")));
    return {{"format", picture.format->name},
            {"width", picture.width},
            {"height", picture.height},
            {"bytes", picture.bytes.size()}};
  }
};

DIRTY_APP(Thumbnail)
