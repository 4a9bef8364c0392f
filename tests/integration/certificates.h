// Certificates for tests of TLS, made by the program openssl.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tests/integration/harness.h"

namespace dirty::integration {

// An authority with a folder of its own, and those it signs for. Thread-compatible.
class Authority {
 public:
  explicit Authority(const std::string& name) : name_(name) {
    Run({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
         absl::StrCat("/CN=", name), "-keyout", Key(name), "-out", Certificate(name)});
    std::ofstream(folder_ / "names") << "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
  }

  // Makes `name`.pem and `name`.key, for localhost. `days`: how long it holds; -1: until yesterday. `rsa_bits`: 0:
  // ECDSA.
  void Sign(const std::string& name, int days = 2, int rsa_bits = 0) const {
    Words request = {"req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"};
    if (rsa_bits > 0) request = {"req", "-newkey", absl::StrCat("rsa:", rsa_bits)};
    request.insert(request.end(),
                   {"-nodes", "-subj", absl::StrCat("/CN=", name), "-keyout", Key(name), "-out", folder_ / "request"});
    Run(request);
    Run({"x509", "-req", "-in", folder_ / "request", "-CA", Certificate(name_), "-CAkey", Key(name_), "-CAcreateserial",
         "-days", absl::StrCat(days), "-extfile", folder_ / "names", "-out", Certificate(name)});
  }

  std::string Certificate(absl::string_view name) const { return folder_ / absl::StrCat(name, ".pem"); }
  std::string Key(absl::string_view name) const { return folder_ / absl::StrCat(name, ".key"); }
  // Its own.
  std::string pem() const { return ReadText(Certificate(name_)); }
  std::string file() const { return Certificate(name_); }

  static void Run(Words words) {
    words.insert(words.begin(), "openssl");
    const Ran ran = RunProgram(words);
    EXPECT_EQ(ran.code, 0) << ran.err;
  }

 private:
  const std::string name_;
  Folder folder_;
};

}  // namespace dirty::integration
