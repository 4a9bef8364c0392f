#include "server/rpc/status.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "server/dispatch/errors.h"

namespace dirty {
namespace {

v1::Error Unpack(const grpc::Status& status) {
  v1::RpcStatus details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), status.error_code());
  EXPECT_EQ(details.message(), status.error_message());
  v1::Error error;
  EXPECT_TRUE(details.details(0).UnpackTo(&error));
  return error;
}

TEST(StatusTest, CarriesTheErrorAsDetails) {
  grpc::Status status = ToStatus(*errors::QueueFull("a", 10, absl::Seconds(2)));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  v1::Error error = Unpack(status);
  EXPECT_EQ(error.reason(), v1::REASON_QUEUE_FULL);
  v1::RpcStatus details;
  details.ParseFromString(status.error_details());
  ASSERT_EQ(details.details_size(), 2);
  EXPECT_EQ(details.details(1).type_url(), "type.googleapis.com/google.rpc.RetryInfo");
  v1::RetryInfo retry;
  EXPECT_TRUE(retry.ParseFromString(details.details(1).value()));
  EXPECT_EQ(retry.retry_delay().seconds(), 2);
}

TEST(StatusTest, CutsTheTextWithoutHalfACharacter) {
  v1::Error error;
  error.set_reason(v1::REASON_APP_ERROR);
  for (int i = 0; i < 1000; ++i) error.mutable_message()->append("\xE8\xAA\x9E");  // 3 bytes each
  grpc::Status status = ToStatus(error);
  EXPECT_EQ(status.error_message().size(), 255u);
  EXPECT_LE(status.error_details().size(), kMaxDetails);
}

TEST(StatusTest, WhateverIsTooLongTheDetailsFit) {
  for (size_t huge : {size_t{5000}, size_t{100000}}) {
    v1::Error error;
    error.set_reason(v1::REASON_WORKER_LOST);
    error.set_message(std::string(huge, 'm'));
    error.set_traceback(absl::StrCat(std::string(huge, 't'), "the end"));
    error.set_exception_type(std::string(huge, 'e'));
    error.set_app(std::string(huge, 'a'));
    error.set_action(std::string(huge, 'x'));
    for (int i = 0; i < 20; ++i) error.add_stderr_tail(absl::StrCat(std::string(512, 's'), i));
    grpc::Status status = ToStatus(error);
    EXPECT_LE(status.error_details().size(), kMaxDetails);
    EXPECT_EQ(Unpack(status).reason(), v1::REASON_WORKER_LOST);
  }
  v1::Error error;
  error.set_reason(v1::REASON_APP_ERROR);
  error.set_message("short");
  error.set_traceback(absl::StrCat(std::string(100000, 't'), "the end"));
  v1::Error fitted = Unpack(ToStatus(error));
  EXPECT_EQ(fitted.message(), "short");
  EXPECT_TRUE(fitted.traceback().ends_with("the end"));
  EXPECT_GT(fitted.traceback().size(), 3000u);
}

TEST(StatusTest, KeepsTheLastLinesOfStandardError) {
  v1::Error error;
  error.set_reason(v1::REASON_WORKER_LOST);
  for (int i = 0; i < 20; ++i) error.add_stderr_tail(absl::StrCat(std::string(500, 's'), i));
  v1::Error fitted = Unpack(ToStatus(error));
  EXPECT_GT(fitted.stderr_tail_size(), 3);
  EXPECT_TRUE(fitted.stderr_tail(fitted.stderr_tail_size() - 1).ends_with("s19"));
}

}  // namespace
}  // namespace dirty
