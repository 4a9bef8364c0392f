// A gRPC client by hand, for what no real client does: not to read, or to keep its window shut. One call, stream 1.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <string>

namespace dirty::http2 {

enum FrameType : uint8_t {
  kData = 0,
  kHeaders = 1,
  kPriority = 2,
  kResetStream = 3,
  kSettings = 4,
  kPing = 6,
  kWindowUpdate = 8,
  kContinuation = 9,
};
enum Flag : uint8_t { kEndStream = 1, kEndHeaders = 4 };

inline std::string Number(uint32_t number) {
  number = htonl(number);
  return std::string(reinterpret_cast<char*>(&number), sizeof number);
}

inline std::string Frame(FrameType type, uint8_t flags, uint32_t stream, const std::string& payload) {
  return Number(static_cast<uint32_t>(payload.size())).substr(1) + static_cast<char>(type) + static_cast<char>(flags) +
         Number(stream) + payload;
}

// What a connection begins with. `window`: how many bytes of a call the server may send; the connection's own window,
// stream 0, has the protocol's default.
inline std::string Preface(uint32_t window) {
  return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(kSettings, 0, 0, std::string("\0\x04", 2) + Number(window));
}

inline std::string OpenWindow(uint32_t stream, uint32_t bytes) {
  return Frame(kWindowUpdate, 0, stream, Number(bytes));
}

// A header that is not compressed.
inline std::string Header(const std::string& name, const std::string& value) {
  return std::string(1, '\0') + static_cast<char>(name.size()) + name + static_cast<char>(value.size()) + value;
}

// The headers that a call has to have.
inline std::string CallHeaders(const std::string& method) {
  return Header(":method", "POST") + Header(":scheme", "http") + Header(":path", method) +
         Header(":authority", "localhost") + Header("content-type", "application/grpc") + Header("te", "trailers");
}

inline std::string Call(const std::string& method, uint32_t stream = 1) {
  return Frame(kHeaders, kEndHeaders, stream, CallHeaders(method));
}

inline std::string Message(const std::string& bytes, bool last = false) {
  return Frame(kData, last ? kEndStream : 0, 1,
               std::string(1, '\0') + Number(static_cast<uint32_t>(bytes.size())) + bytes);
}

inline void Send(int fd, const std::string& bytes) {
  ASSERT_EQ(write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
}

inline std::string Read(int fd, size_t size) {
  std::string bytes(size, '\0');
  for (size_t have = 0; have < size;) {
    ssize_t more = read(fd, bytes.data() + have, size - have);
    if (more <= 0) return "";
    have += static_cast<size_t>(more);
  }
  return bytes;
}

// The server's next message, which is in one frame; whatever else it says is skipped.
inline std::string ReadMessage(int fd) {
  for (;;) {
    std::string head = Read(fd, 9);
    if (head.empty()) return "the connection ended";
    size_t size =
        static_cast<uint8_t>(head[0]) << 16 | static_cast<uint8_t>(head[1]) << 8 | static_cast<uint8_t>(head[2]);
    std::string payload = Read(fd, size);
    if (head[3] == kData && size >= 5) return payload.substr(5);
  }
}

}  // namespace dirty::http2
