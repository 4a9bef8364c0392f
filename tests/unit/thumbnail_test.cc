// The example app, loaded as dirty-worker loads it, called without one.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "dirty/app.h"
#include "worker/native/shared_library.h"

namespace {

using dirty::Json;
using ::testing::HasSubstr;

const char kReference[] = "$attachment";

// Holds the attachments of one call, and cancels it from the start or once it was asked `cancel_after` times.
class FakeContext : public dirty::Context {
 public:
  explicit FakeContext(std::string picture, int cancel_after = -1) : cancel_after_(cancel_after) {
    given_.push_back(std::move(picture));
  }

  const std::string& call_id() const override { return call_id_; }
  const std::string& traceparent() const override { return traceparent_; }
  std::chrono::steady_clock::time_point deadline() const override {
    return std::chrono::steady_clock::time_point::max();
  }
  bool cancelled() const override { return cancel_after_ >= 0 && asked_++ >= cancel_after_; }
  std::string_view Bytes(const Json& reference) const override {
    if (!reference.is_object() || !reference.contains(kReference)) throw dirty::Error("TypeError", "no reference");
    return given_.at(reference[kReference].get<std::size_t>());
  }
  Json Attach(std::string bytes) override {
    made_.push_back(std::move(bytes));
    return {{kReference, made_.size() - 1}};
  }
  void Emit(Json) override { FAIL() << "nothing is streamed"; }

  const std::vector<std::string>& made() const { return made_; }
  int asked() const { return asked_; }

 private:
  const std::string call_id_ = "call-1";
  std::string traceparent_;
  const int cancel_after_;
  mutable std::atomic<int> asked_ = 0;
  std::vector<std::string> given_;
  std::vector<std::string> made_;
};

std::string Picture(const std::string& name) {
  std::ifstream file(THUMBNAIL_PICTURES + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  return {std::istreambuf_iterator<char>(file), {}};
}

// A PNG whose header claims 30,000 x 30,000 pixels, and which holds none.
std::string Bomb() {
  std::string png("\x89PNG\r\n\x1a\n");
  png.append("\0\0\0\x0dIHDR\0\0\x75\x30\0\0\x75\x30\x08\x02\0\0\0\xe9\x45\x6f\xed", 25);
  return png.append("\0\0\0\0IDAT\x35\xaf\x06\x1e", 12);
}

class ThumbnailTest : public ::testing::Test {
 protected:
  // One for all tests: libvips is started once a process.
  static void SetUpTestSuite() {
    auto app = dirty::worker::MakeApp(THUMBNAIL_LIBRARY ":Thumbnail", {});
    ASSERT_TRUE(app.ok()) << app.status();
    app_ = app->release();
    app_->Init();
  }
  static void TearDownTestSuite() {
    app_->Close();
    delete app_;
  }

  static Json Call(const std::string& action, FakeContext& context, Json kwargs = Json::object()) {
    return app_->Call(action, Json::array({{{kReference, 0}}}), kwargs, context);
  }

  // Type and message of the error that a call ends with.
  static std::string Failure(const std::string& picture, const Json& kwargs = Json::object(),
                             const std::string& action = "thumbnail") {
    FakeContext context(picture);
    try {
      Call(action, context, kwargs);
    } catch (const dirty::Error& error) {
      return error.type() + ": " + error.what();
    }
    return "no error";
  }

  static dirty::App* app_;
};
dirty::App* ThumbnailTest::app_ = nullptr;

TEST_F(ThumbnailTest, InfoIsTheUprightPicturesFormatAndSize) {
  const std::vector<std::pair<std::string, Json>> expected{
      {"mountains.jpg", {{"format", "jpeg"}, {"width", 960}, {"height", 640}}},
      {"tower.jpg", {{"format", "jpeg"}, {"width", 480}, {"height", 720}}},  // stored lying
      {"leaf.png", {{"format", "png"}, {"width", 400}, {"height", 400}}},
      {"night.webp", {{"format", "webp"}, {"width", 800}, {"height", 500}}},
  };
  for (auto [name, info] : expected) {
    FakeContext context(Picture(name));
    info["bytes"] = Picture(name).size();
    EXPECT_EQ(Call("info", context), info) << name;
  }
}

TEST_F(ThumbnailTest, TheLongerSideHasTheGivenSizeAndTheFormatStays) {
  for (const std::string name : {"mountains.jpg", "tower.jpg", "leaf.png", "night.webp"}) {
    FakeContext original(Picture(name));
    const Json before = Call("info", original);
    FakeContext context(Picture(name));
    const Json made = Call("thumbnail", context, {{"size", 100}});
    ASSERT_EQ(context.made().size(), 1u) << name;
    EXPECT_EQ(made["image"], (Json{{kReference, 0}})) << name;

    FakeContext thumbnail(context.made()[0]);
    const Json after = Call("info", thumbnail);
    EXPECT_EQ(after["format"], before["format"]) << name;
    EXPECT_EQ(after["width"], made["width"]) << name;
    EXPECT_EQ(after["height"], made["height"]) << name;
    const double wide = before["width"].get<double>(), high = before["height"].get<double>();
    EXPECT_NEAR(after["width"].get<int>(), 100 * wide / std::max(wide, high), 1) << name;
    EXPECT_NEAR(after["height"].get<int>(), 100 * high / std::max(wide, high), 1) << name;
  }
}

TEST_F(ThumbnailTest, ConvertsToEveryFormatAndSize128IsTheDefault) {
  for (const std::string format : {"jpeg", "png", "webp"}) {
    FakeContext context(Picture("leaf.png"));
    const Json made = Call("thumbnail", context, {{"format", format}});
    FakeContext thumbnail(context.made().at(0));
    const Json info = Call("info", thumbnail);
    EXPECT_EQ(info["format"], format);
    EXPECT_EQ(info["width"], 128);
  }
}

TEST_F(ThumbnailTest, BrokenPicturesAreClearErrors) {
  const std::string jpeg = Picture("mountains.jpg"), png = Picture("leaf.png"), webp = Picture("night.webp");
  EXPECT_THAT(Failure(""), HasSubstr("BadPictureError: cannot read the picture: it is empty"));
  EXPECT_THAT(Failure("hello"), HasSubstr("BadPictureError: cannot read the picture: it is not JPEG, PNG or WebP"));
  EXPECT_THAT(Failure("<svg xmlns=\"http://www.w3.org/2000/svg\"/>"), HasSubstr("it is not JPEG, PNG or WebP"));
  for (const std::string& picture : {jpeg, png, webp}) {
    EXPECT_THAT(Failure(picture.substr(0, picture.size() / 3)),
                HasSubstr("BadPictureError: cannot read the picture: "));
    EXPECT_THAT(Failure(picture.substr(0, 20)), HasSubstr("BadPictureError: cannot read the picture: "));
  }
  EXPECT_THAT(Failure(png.substr(0, 9000) + std::string(9000, 'x')), HasSubstr("BadPictureError"));
}

TEST_F(ThumbnailTest, APictureThatUnfoldsToGigabytesIsRefusedByItsHeader) {
  const std::string bomb = Bomb();
  EXPECT_THAT(Failure(bomb), HasSubstr("PictureTooLargeError: the picture has 30000 x 30000 pixels"));
  EXPECT_THAT(Failure(bomb, Json::object(), "info"), HasSubstr("PictureTooLargeError"));
}

TEST_F(ThumbnailTest, WrongArgumentsAreClearErrors) {
  const std::string picture = Picture("leaf.png");
  EXPECT_EQ(Failure(picture, {{"size", 0}}), "ValueError: thumbnail: 'size' must be from 1 to 4096, not 0");
  EXPECT_EQ(Failure(picture, {{"size", 4097}}), "ValueError: thumbnail: 'size' must be from 1 to 4096, not 4097");
  EXPECT_THAT(Failure(picture, {{"size", 18446744073709551615u}}), HasSubstr("ValueError"));
  EXPECT_EQ(Failure(picture, {{"size", "big"}}), "TypeError: thumbnail: 'size' must be a whole number, not string");
  EXPECT_EQ(Failure(picture, {{"format", "gif"}}),
            "ValueError: thumbnail: 'format' must be jpeg, png or webp, not 'gif'");
  EXPECT_EQ(Failure(picture, {{"colour", 1}}), "TypeError: thumbnail has no argument 'colour'");
  EXPECT_EQ(Failure(picture, {{"image", 1}}), "TypeError: thumbnail got 'image' twice");
  EXPECT_EQ(Failure(picture, Json::object(), "rotate"), "AttributeError: there is no action 'rotate': thumbnail, info");

  FakeContext context(picture);
  EXPECT_THROW(app_->Call("thumbnail", Json::array(), Json::object(), context), dirty::Error);
  EXPECT_THROW(app_->Call("thumbnail", Json::array({"leaf.png"}), Json::object(), context), dirty::Error);
  EXPECT_THROW(app_->Call("info", Json::array({{{kReference, 0}}, 128}), Json::object(), context), dirty::Error);
}

TEST_F(ThumbnailTest, StopsWhenItIsCancelled) {
  FakeContext at_once(Picture("mountains.jpg"), 0);
  EXPECT_THROW(Call("thumbnail", at_once, {{"size", 4096}}), dirty::Cancelled);
  EXPECT_TRUE(at_once.made().empty());

  FakeContext meanwhile(Picture("mountains.jpg"), 2);
  EXPECT_THROW(Call("thumbnail", meanwhile, {{"size", 4096}}), dirty::Cancelled);
  EXPECT_TRUE(meanwhile.made().empty());
}

TEST_F(ThumbnailTest, ManyThreadsAtOnceGetWhatOneGets) {
  const std::vector<std::string> pictures{Picture("mountains.jpg"), Picture("leaf.png"), Picture("night.webp")};
  std::vector<std::string> alone;
  for (const std::string& picture : pictures) {
    FakeContext context(picture);
    Call("thumbnail", context);
    alone.push_back(context.made().at(0));
  }
  std::vector<std::thread> threads;
  threads.reserve(8);
  std::atomic<int> right = 0;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&] {
      for (int round = 0; round < 12; ++round) {
        const std::size_t which = round % pictures.size();
        FakeContext context(pictures[which]);
        Call("thumbnail", context);
        right += context.made().at(0) == alone[which];
        EXPECT_THAT(Failure("hello"), HasSubstr("it is not JPEG, PNG or WebP"));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 8 * 12);
}

}  // namespace
