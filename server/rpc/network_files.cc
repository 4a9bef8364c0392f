#include "server/rpc/network_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <time.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/config/config.h"
#include "server/loop/check.h"

namespace dirty {
namespace {

constexpr size_t kPairBytes = 256 << 10;  // more than any chain
constexpr int kMostFlights = 4;
constexpr int kTries = 3;  // the quickest counts
// What handshakes may take of the loop in each kHandshakeInterval, and what gRPC takes for each apart from the key.
constexpr absl::Duration kHandshakeShare = absl::Milliseconds(32);
constexpr absl::Duration kConnectionCost = absl::Microseconds(1500);

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* connection) const { SSL_free(connection); }
};
using Context = std::unique_ptr<SSL_CTX, Free>;
using Connection = std::unique_ptr<SSL, Free>;
using Certificate = std::unique_ptr<X509, Free>;
using PrivateKey = std::unique_ptr<EVP_PKEY, Free>;

absl::Status Fault(absl::string_view key, absl::string_view file, absl::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat("network.", key, ": ", file, ": ", what));
}

// Leaves `text` empty if the file is not configured.
absl::Status Read(absl::string_view key, const std::string& file, std::string& text) {
  if (file.empty()) return absl::OkStatus();
  absl::StatusOr<std::string> read = ReadFile(file);
  if (!read.ok()) {
    return Fault(key, file, absl::StrCat("cannot be read: ", read.status().message(), "; dirtyd's user has to"));
  }
  text = *std::move(read);
  return absl::OkStatus();
}

// The certificates of a PEM file, in its order.
std::vector<Certificate> ParseCertificates(const std::string& pem) {
  std::unique_ptr<BIO, Free> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  std::vector<Certificate> certificates;
  while (X509* next = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) certificates.emplace_back(next);
  ERR_clear_error();
  return certificates;
}

PrivateKey ParseKey(const std::string& pem, bool* encrypted) {
  std::unique_ptr<BIO, Free> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  // Else OpenSSL asks at the terminal.
  auto no_passphrase = [](char*, int, int, void* asked) {
    *static_cast<bool*>(asked) = true;
    return -1;
  };
  *encrypted = false;
  PrivateKey key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, encrypted));
  ERR_clear_error();
  return key;
}

std::string Expiry(const X509& certificate) {
  std::unique_ptr<BIO, Free> bio(BIO_new(BIO_s_mem()));
  ASN1_TIME_print(bio.get(), X509_get0_notAfter(&certificate));
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return {text, static_cast<size_t>(size)};
}

// OpenSSL's word for what went wrong first: "ee key too small".
std::string WhyNot() {
  const unsigned long code = ERR_peek_error();
  const char* reason = ERR_reason_error_string(code);
  std::string why = reason != nullptr ? reason : "it gives no reason";
  ERR_clear_error();
  return why;
}

// A context of the server's as gRPC makes it: OpenSSL's own security level, TLS 1.2 and newer.
Context ServerContext(const std::vector<Certificate>& chain, EVP_PKEY& key) {
  Context context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr || SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION) != 1 ||
      SSL_CTX_use_certificate(context.get(), chain.front().get()) != 1 ||
      SSL_CTX_use_PrivateKey(context.get(), &key) != 1) {
    return nullptr;
  }
  for (size_t i = 1; i < chain.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(context.get(), chain[i].get()) != 1) return nullptr;
  }
  return context;
}

// Of this thread: the machine may be busy with others.
absl::Duration ProcessorTime() {
  timespec time;
  DIRTY_CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0, "CLOCK_THREAD_CPUTIME_ID");
  return absl::DurationFromTimespec(time);
}

// One handshake in memory, with a client that believes everything: what it costs the server, or nothing if it fails.
std::optional<absl::Duration> TryHandshake(SSL_CTX* server_context) {
  const Context client_context(SSL_CTX_new(TLS_client_method()));
  if (client_context == nullptr) return std::nullopt;
  SSL_CTX_set_security_level(client_context.get(), 0);
  const Connection server(SSL_new(server_context)), client(SSL_new(client_context.get()));
  BIO *server_end, *client_end;
  if (server == nullptr || client == nullptr ||
      BIO_new_bio_pair(&server_end, kPairBytes, &client_end, kPairBytes) != 1) {
    return std::nullopt;
  }
  SSL_set_bio(server.get(), server_end, server_end);
  SSL_set_bio(client.get(), client_end, client_end);
  SSL_set_accept_state(server.get());
  SSL_set_connect_state(client.get());
  absl::Duration took;
  for (int i = 0; i < kMostFlights; ++i) {
    SSL_do_handshake(client.get());
    const absl::Duration start = ProcessorTime();
    const int done = SSL_do_handshake(server.get());
    took += ProcessorTime() - start;
    if (done == 1) return took;
    if (SSL_get_error(server.get(), done) != SSL_ERROR_WANT_READ) return std::nullopt;
  }
  return std::nullopt;
}

// Whether TLS will take them: gRPC says nothing when it does not, and at a reload goes on with those of before. Sets
// `files.connections` by what a handshake costs.
absl::Status CheckHandshake(const NetworkSettings& settings, const std::vector<Certificate>& chain, EVP_PKEY& key,
                            NetworkFiles& files) {
  ERR_clear_error();
  const Context context = ServerContext(chain, key);
  absl::Duration cost = absl::InfiniteDuration();
  for (int i = 0; i < kTries; ++i) {
    const std::optional<absl::Duration> took = context != nullptr ? TryHandshake(context.get()) : std::nullopt;
    if (!took.has_value()) {
      return Fault("certificate", settings.certificate,
                   absl::StrCat("TLS refuses it: ", WhyNot(),
                                "; make one with a stronger key and signature, such as ECDSA P-256 with SHA-256"));
    }
    cost = std::min(cost, *took);
  }
  files.connections =
      static_cast<int>(std::clamp<int64_t>(kHandshakeShare / (kConnectionCost + cost), 1, kMostHandshakes));
  if (files.connections < kMostHandshakes / 2) {
    files.warnings.push_back(
        absl::StrCat("network.key: ", settings.key, ": a handshake with it takes ",
                     absl::FormatDuration(absl::Trunc(cost, absl::Microseconds(100))), ", so no more than ",
                     files.connections * (absl::Seconds(1) / kHandshakeInterval),
                     " connections a second are accepted; a key for ECDSA (P-256) is as safe and takes far less"));
  }
  return absl::OkStatus();
}

absl::Status CheckCertificates(const NetworkSettings& settings, NetworkFiles& files) {
  if (settings.certificate.empty()) return absl::OkStatus();
  const std::vector<Certificate> chain = ParseCertificates(files.certificate);
  if (chain.empty()) {
    return Fault("certificate", settings.certificate, "holds no certificate; it has to be PEM, the server's own first");
  }
  const Certificate& certificate = chain.front();
  bool encrypted;
  const PrivateKey key = ParseKey(files.key, &encrypted);
  if (key == nullptr) {
    return Fault("key", settings.key,
                 encrypted ? "is encrypted; give one without a passphrase, which only dirtyd's user may read"
                           : "holds no private key; it has to be PEM");
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    ERR_clear_error();
    return Fault("key", settings.key,
                 absl::StrCat("is not the key of the first certificate in ", settings.certificate));
  }
  if (!settings.client_ca.empty() && ParseCertificates(files.client_ca).empty()) {
    return Fault("client_ca", settings.client_ca, "holds no certificate; it has to be PEM");
  }
  if (absl::Status status = CheckHandshake(settings, chain, *key, files); !status.ok()) return status;
  if (X509_cmp_current_time(X509_get0_notAfter(certificate.get())) < 0) {
    files.warnings.push_back(absl::StrCat("network.certificate: ", settings.certificate, ": expired on ",
                                          Expiry(*certificate), "; clients refuse it, renew it and reload"));
  }
  return absl::OkStatus();
}

absl::Status ParseTokens(const std::string& file, absl::string_view text, std::vector<std::string>& tokens) {
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    if (!std::all_of(line.begin(), line.end(), [](unsigned char c) { return absl::ascii_isgraph(c); })) {
      return Fault("token_file", file,
                   absl::StrCat("line ", number, " is not a token; use letters, digits and signs, without spaces"));
    }
    tokens.emplace_back(line);
  }
  // Not open to everybody by mistake.
  if (tokens.empty()) return Fault("token_file", file, "holds no token; write one a line, or leave token_file out");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<NetworkFiles> ReadNetworkFiles(const NetworkSettings& settings) {
  NetworkFiles files;
  std::string tokens;
  for (const auto& [key, file, text] :
       {std::tuple("certificate", &settings.certificate, &files.certificate),
        std::tuple("key", &settings.key, &files.key), std::tuple("client_ca", &settings.client_ca, &files.client_ca),
        std::tuple("token_file", &settings.token_file, &tokens)}) {
    if (absl::Status status = Read(key, *file, *text); !status.ok()) return status;
  }
  if (absl::Status status = CheckCertificates(settings, files); !status.ok()) return status;
  if (!settings.token_file.empty()) {
    absl::Status status = ParseTokens(settings.token_file, tokens, files.tokens);
    if (!status.ok()) return status;
  }
  return files;
}

}  // namespace dirty
