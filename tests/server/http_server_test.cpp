// Addresses and ports. (What goes over the sockets is tested with the real program: conformance/http.test.mjs.)
#include "server/http_server.h"

#include "base/unique_fd.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <format>
#include <thread>

namespace hypura::server {
namespace {

HttpReply nothing(const HttpRequest&) { return {}; }

TEST(HttpServerTest, APortBelongsToOneServer) {
    HttpServer first(nothing);
    const Result<int> port = first.bind({"127.0.0.1", 0});
    ASSERT_TRUE(port.has_value());
    HttpServer second(nothing);
    const Result<int> taken = second.bind({"127.0.0.1", *port});
    ASSERT_FALSE(taken.has_value());
    EXPECT_EQ(taken.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(taken.error().message, testing::HasSubstr(std::format("127.0.0.1:{}: the address is taken", *port)));
}

bool answers_at(const char* host, int port) {
    const UniqueFd client(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    ::inet_pton(AF_INET, host, &address.sin_addr);
    return ::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

TEST(HttpServerTest, LocalhostIsWhereClientsLookForIt) {
    HttpServer server(nothing);
    const Result<int> port = server.bind({"localhost", 0});
    ASSERT_TRUE(port.has_value());
    EXPECT_TRUE(answers_at("127.0.0.1", *port));
}

// A signal right after the start once left a server that nothing could end.
TEST(HttpServerTest, AStopBeforeServingBeginsIsNotForgotten) {
    HttpServer server(nothing);
    ASSERT_TRUE(server.bind({"127.0.0.1", 0}));
    std::thread stopper([&server] { server.stop(); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_TRUE(server.serve());
    stopper.join();
}

TEST(HttpServerTest, AddressesAreReadAsOllamaWritesThem) {
    const auto host_and_port = [](std::string_view text) {
        const auto address = parse_address(text);
        return address ? std::format("{} {}", address->host, address->port) : address.error().message;
    };
    EXPECT_EQ(host_and_port(""), "127.0.0.1 11434");
    EXPECT_EQ(host_and_port("0.0.0.0"), "0.0.0.0 11434");
    EXPECT_EQ(host_and_port(":8080"), "127.0.0.1 8080");
    EXPECT_EQ(host_and_port("example.com:1234"), "example.com 1234");
    EXPECT_EQ(host_and_port("http://10.0.0.1:80/"), "10.0.0.1 80");
    EXPECT_EQ(host_and_port("[::1]"), "::1 11434");
    EXPECT_EQ(host_and_port("[::1]:99"), "::1 99");
    EXPECT_EQ(host_and_port("::"), ":: 11434");
    EXPECT_EQ(host_and_port("localhost:http"), "'http' is not a port");
    EXPECT_EQ(host_and_port("localhost:70000"), "'70000' is not a port");
}

}  // namespace
}  // namespace hypura::server
