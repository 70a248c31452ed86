// The service over a fake engine: answers, queue, several models, errors, cancellation, the routes around them.
#include "server/service.h"
#include "server/answer_builder.h"
#include "server/fake_engine.h"
#include "server/model_import.h"
#include "server/reply.h"
#include "server/routes.h"
#include "server/sse.h"
#include "support/gguf_builder.h"
#include "support/temp_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace hypura::server {
namespace {

using namespace std::chrono_literals;

// A folder with two models of which only the headers are real.
class ServiceTest : public testing::Test {
protected:
    void SetUp() override {
        for (const char* name : {"one", "two"}) write_model(folder_.path() + "/" + name + ".gguf", name);
    }

    static void write_model(const std::string& path, const std::string& name) {
        test::write_test_model(path,
                               {{"general.architecture", "llama"},
                                {"general.name", name},
                                {"llama.context_length", uint64_t{200}},
                                {"tokenizer.chat_template", std::string(kFakeTemplate)}},
                               {});
    }

    Service& service() {
        if (!service_) service_ = std::make_unique<Service>(store_, options_);
        return *service_;
    }
    static Request request(const std::string& model, const std::string& text = "hi") {
        return {.model = model, .prompt = ChatPrompt{.messages = {{.role = "user", .text = text}}}};
    }
    static std::vector<Event> gather_all(EventChannel& channel) {
        std::vector<Event> events;
        while (events.empty() || (!std::holds_alternative<DoneEvent>(events.back()) &&
                                  !std::holds_alternative<FailedEvent>(events.back()))) {
            auto event = channel.take(10s);
            if (!event) break;
            events.push_back(*std::move(event));
        }
        return events;
    }
    static std::string text_of(const std::vector<Event>& events) { return gather(events).text; }
    static ApiError error_of(const std::vector<Event>& events) { return std::get<FailedEvent>(events.back()).error; }
    template <class Condition>
    static void until(Condition condition) {
        for (int i = 0; i < 2000 && !condition(); ++i) std::this_thread::sleep_for(5ms);
        EXPECT_TRUE(condition());
    }

    test::TempDir folder_;
    FakeControl control_;
    ModelStore store_{folder_.path(), {}};
    ManagerOptions options_ = fake_options(control_);
    std::unique_ptr<Service> service_;
};

TEST_F(ServiceTest, AnswersAndRemembersTheModel) {
    EXPECT_EQ(text_of(gather_all(**service().generate(request("one")))), "hello");
    EXPECT_EQ(text_of(gather_all(**service().generate(request("ONE:latest")))), "hello");
    EXPECT_EQ(control_.opened, 1U);
    EXPECT_EQ(service().manager().loaded().at(0).model->name, "one:latest");
    EXPECT_EQ(service().generate(request("three")).error().status, 404);
    EXPECT_EQ(service().generate(request("../one")).error().message, "invalid model name");
}

TEST_F(ServiceTest, PromptIsRenderedAndLimitsArePassedOn) {
    Request asked = request("one");
    asked.max_tokens = 3;
    asked.context_tokens = 50;
    asked.sampling.temperature = 0.5;
    EXPECT_EQ(text_of(gather_all(**service().generate(asked))), "hel");
    const auto seen = control_.seen().at(0);
    EXPECT_EQ(std::string(seen.prompt.begin(), seen.prompt.end()), "<user>hi<assistant>");
    EXPECT_EQ(seen.max_tokens, 3U);
    EXPECT_EQ(seen.context_tokens, 50U);
    EXPECT_FLOAT_EQ(seen.sampling.temperature, 0.5F);
}

TEST_F(ServiceTest, ASuffixIsFilledInBeforeWhereTheVocabularyHasTheTokens) {
    const std::vector<std::string> tokens = {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "x"};
    test::write_test_model(
        folder_.file("coder.gguf"),
        {{"general.architecture", "llama"}, {"llama.context_length", uint64_t{200}}, {"tokenizer.ggml.tokens", tokens}},
        {});
    EXPECT_TRUE((*store_.find("coder"))->supports("insert"));
    EXPECT_FALSE((*store_.find("one"))->supports("insert"));
    const Request asked{.model = "coder", .prompt = TextPrompt{"a", "b"}};
    EXPECT_EQ(text_of(gather_all(**service().generate(asked))), "hello");
    const auto seen = control_.seen().at(0).prompt;
    EXPECT_EQ(std::string(seen.begin(), seen.end()), "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>");
    const auto refused = service().generate({.model = "one", .prompt = TextPrompt{"a", "b"}});
    EXPECT_EQ(refused.error().message, "one does not support insert");
}

TEST_F(ServiceTest, StopStringsEndTheAnswerAndAreNamed) {
    control_.answer = "one STOP two";
    Request asked = request("one");
    asked.stop = {"TOP", "never"};
    const auto events = gather_all(**service().generate(asked));
    EXPECT_EQ(text_of(events), "one S");
    EXPECT_EQ(std::get<DoneEvent>(events.back()).finish, Finish::kStopString);
    EXPECT_EQ(std::get<DoneEvent>(events.back()).stop_string, "TOP");
}

// A token may bring several stop strings.
TEST(AnswerBuilderTest, TheFirstStopStringIsNamed) {
    class WordEngine final : public FakeEngine {
    public:
        std::string piece(engine::Token, bool) const override { return "one, two, three"; }
    };
    const WordEngine engine;
    AnswerBuilder builder(engine, {.stop = {", three", ", two", "three"}});
    engine::Sampled sampled;
    sampled.token = 1;
    const auto events = builder.take(sampled);
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(std::get<TextEvent>(events[0]).text, "one");
    EXPECT_TRUE(builder.wants_no_more());
    engine::Finished finished;
    finished.reason = engine::FinishReason::kCancelled;
    EXPECT_EQ(std::get<DoneEvent>(builder.take(finished).back()).stop_string, ", two");
}

TEST_F(ServiceTest, ThinkingAndCallsAreToldApart) {
    control_.answer = "<think>hm</think>ok <tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1}}</tool_call>";
    Request asked = request("one");
    std::get<ChatPrompt>(asked.prompt).tools = {{"f", "{}", "{}"}};
    const Answer answer = gather(gather_all(**service().generate(asked)));
    EXPECT_EQ(answer.thinking, "hm");
    EXPECT_EQ(answer.text, "ok ");
    EXPECT_EQ(answer.tool_calls.at(0).arguments, "{\"a\":1}");
    EXPECT_EQ(answer.done.finish, Finish::kToolCalls);
    asked.think = false;
    EXPECT_EQ(gather(gather_all(**service().generate(asked))).thinking, "");
}

TEST_F(ServiceTest, AModelMayHaveATemplateForToolsAlone) {
    test::write_test_model(folder_.file("plain.gguf"),
                           {{"general.architecture", "llama"},
                            {"llama.context_length", uint64_t{200}},
                            {"tokenizer.chat_template", "{{ messages }} <think> </think>"},
                            {"tokenizer.chat_template.tool_use", "{{ tools }} <tool_call> </tool_call>"}},
                           {});
    EXPECT_TRUE((*store_.find("plain"))->supports("tools"));
    EXPECT_TRUE((*store_.find("plain"))->supports("thinking"));
    Request asked = request("plain");
    gather_all(**service().generate(asked));
    std::get<ChatPrompt>(asked.prompt).tools = {{"f", "{}", R"({"type":"function","function":{"name":"f"}})"}};
    gather_all(**service().generate(asked));
    const auto seen = control_.seen();
    EXPECT_EQ(std::string(seen.at(0).prompt.begin(), seen.at(0).prompt.end()), "<user>hi<assistant>");
    EXPECT_EQ(std::string(seen.at(1).prompt.begin(), seen.at(1).prompt.end()), "[f]<user>hi<assistant>");
}

TEST_F(ServiceTest, LongHistoriesLoseTheirOldestTurnsOrAreRefused) {
    Request asked = request("one");
    auto& messages = std::get<ChatPrompt>(asked.prompt).messages;
    messages = {{.role = "system", .text = "S"},
                {.role = "user", .text = std::string(150, 'a')},
                {.role = "assistant", .text = std::string(40, 'b')},
                {.role = "user", .text = "last"}};
    EXPECT_EQ(text_of(gather_all(**service().generate(asked))), "hello");
    const auto prompt = control_.seen().at(0).prompt;
    const std::string text(prompt.begin(), prompt.end());
    EXPECT_THAT(text, testing::StartsWith("<system>S"));
    EXPECT_THAT(text, testing::EndsWith("<user>last<assistant>"));
    EXPECT_FALSE(text.contains("aaa"));
    asked.truncate = false;
    const ApiError error = error_of(gather_all(**service().generate(asked)));
    EXPECT_EQ(error.status, 400);
    EXPECT_EQ(error.context_tokens, 200U);
}

TEST_F(ServiceTest, AnAnswerThatFillsTheContextShiftsItOrEnds) {
    Request asked = request("one");
    asked.context_tokens = 50;
    EXPECT_EQ(text_of(gather_all(**service().generate(asked))), "hello");
    EXPECT_FALSE(control_.seen().back().shift);
    EXPECT_EQ(control_.seen().back().max_tokens, std::nullopt);
    asked.shift = true;
    EXPECT_EQ(text_of(gather_all(**service().generate(asked))), "hello");
    EXPECT_TRUE(control_.seen().back().shift);
    EXPECT_EQ(control_.seen().back().keep_tokens, 4U);
    EXPECT_EQ(control_.seen().back().max_tokens, 500U);  // not for ever
    asked.keep_tokens = -1;
    asked.max_tokens = 3;
    EXPECT_EQ(text_of(gather_all(**service().generate(asked))), "hel");
    EXPECT_EQ(control_.seen().back().keep_tokens, 19U);  // "<user>hi<assistant>"
    EXPECT_EQ(control_.seen().back().max_tokens, 3U);
}

TEST_F(ServiceTest, QueueIsBoundedAndServedInOrder) {
    options_ = fake_options(control_, 1, 2);
    control_.hold(true);
    const auto first = *service().generate(request("one", "1"));
    until([&] { return service().manager().loaded().size() == 1 && service().manager().waiting() == 0; });
    const auto second = *service().generate(request("one", "2"));
    const auto third = *service().generate(request("one", "3"));
    EXPECT_EQ(service().generate(request("one", "4")).error().status, 503);
    control_.hold(false);
    for (const auto& channel : {first, second, third}) EXPECT_EQ(text_of(gather_all(*channel)), "hello");
    const auto seen = control_.seen();
    ASSERT_EQ(seen.size(), 3U);
    EXPECT_EQ(seen[1].prompt[6], '2');
    EXPECT_EQ(seen[2].prompt[6], '3');
}

TEST_F(ServiceTest, AnAbandonedRequestIsCancelledOrNeverStarts) {
    options_ = fake_options(control_, 1);
    control_.hold(true);
    const auto running = *service().generate(request("one"));
    until([&] { return control_.seen().size() == 1; });
    const auto waiting = *service().generate(request("one"));
    waiting->abandon();
    running->abandon();
    until([&] { return service().manager().loaded().at(0).busy == 0; });
    control_.hold(false);
    EXPECT_EQ(text_of(gather_all(**service().generate(request("one")))), "hello");
    EXPECT_EQ(control_.seen().size(), 2U);
    EXPECT_EQ(service().counters().cancelled, 1U);
}

TEST_F(ServiceTest, AbandonedEmbeddingsAreCancelledOrNeverStart) {
    options_ = fake_options(control_, 1);
    control_.hold(true);
    std::atomic<int> results{0};
    const auto embed = [&](const ClientPointer& client) {
        EXPECT_TRUE(service()
                        .embed({.model = "one", .inputs = {"a", "b", "c"}}, client, [&](const auto&) { ++results; })
                        .has_value());
    };
    const auto running = std::make_shared<ClientLink>(), waiting = std::make_shared<ClientLink>();
    embed(running);
    until([&] { return !service().manager().loaded().empty() && service().manager().loaded().at(0).busy == 1; });
    embed(waiting);
    waiting->abandon();
    running->abandon();
    until([&] { return service().manager().loaded().at(0).busy == 0; });
    until([&] { return service().manager().waiting() == 0; });  // the manager's thread drops it when it comes to it
    EXPECT_EQ(service().manager().waiting(), 0U);
    EXPECT_EQ(results, 1);
}

TEST_F(ServiceTest, ThoseWhoLeftTakeNoPlaceInTheQueue) {
    options_ = fake_options(control_, 1, 1);
    control_.hold(true);
    const auto running = *service().generate(request("one"));
    until([&] { return control_.seen().size() == 1; });
    (*service().generate(request("one")))->abandon();
    const auto next = service().generate(request("one"));
    ASSERT_TRUE(next.has_value());
    control_.hold(false);
    EXPECT_EQ(text_of(gather_all(**next)), "hello");
}

TEST_F(ServiceTest, AnErrorEndsOneRequestAndNotTheNext) {
    control_.error = {ErrorCode::kReadFailed, "the disk is gone"};
    const auto events = gather_all(**service().generate(request("one")));
    EXPECT_EQ(text_of({events.begin(), events.end() - 1}), "h");
    EXPECT_EQ(error_of(events).message, "the disk is gone");
    control_.error = {};
    EXPECT_EQ(text_of(gather_all(**service().generate(request("one")))), "hello");
}

TEST_F(ServiceTest, ModelsTakeTurnsWithinTheirNumber) {
    EXPECT_EQ(text_of(gather_all(**service().generate(request("one")))), "hello");
    EXPECT_EQ(text_of(gather_all(**service().generate(request("two")))), "hello");
    EXPECT_EQ(service().manager().loaded().size(), 1U);
    EXPECT_EQ(control_.closed, 1U);
}

TEST_F(ServiceTest, KeepAliveUnloads) {
    Request asked = request("one");
    asked.keep_alive = 20ms;
    EXPECT_EQ(text_of(gather_all(**service().generate(asked))), "hello");
    until([&] { return service().manager().loaded().empty(); });
    asked.keep_alive = std::chrono::milliseconds::max();
    EXPECT_EQ(text_of(gather_all(**service().generate(asked))), "hello");
    EXPECT_GT(service().manager().loaded().at(0).expires, std::chrono::system_clock::now() + 24h * 365);
    asked.keep_alive = 0ms;
    EXPECT_EQ(std::get<DoneEvent>(gather_all(**service().load(asked)).back()).finish, Finish::kUnload);
    until([&] { return service().manager().loaded().empty(); });
}

TEST_F(ServiceTest, AModelThatCannotBeOpenedFailsItsRequests) {
    options_.open = [](const ModelEntry&, uint32_t) -> Result<OpenedModel> {
        return fail(ErrorCode::kBudgetTooSmall, "needs 3 GiB");
    };
    const ApiError error = error_of(gather_all(**service().generate(request("one"))));
    EXPECT_EQ(error.status, 500);
    EXPECT_EQ(error.message, "needs 3 GiB");
}

TEST_F(ServiceTest, EndingTheServiceEndsWhatRunsAndWhatWaits) {
    options_ = fake_options(control_, 1);
    control_.hold(true);
    const auto running = *service().generate(request("one"));
    until([&] { return control_.seen().size() == 1; });
    const auto waiting = *service().generate(request("one"));
    service_.reset();
    EXPECT_EQ(error_of(gather_all(*running)).status, 499);
    EXPECT_EQ(error_of(gather_all(*waiting)).status, 503);
}

// ---- routes, without sockets
// -----------------------------------------------------------------------------------------

class RoutesTest : public ServiceTest {
protected:
    HttpReply call(const std::string& method, const std::string& path, const std::string& body = "",
                   std::multimap<std::string, std::string> headers = {}) {
        if (!application_) application_ = std::make_unique<Application>(service(), route_options_);
        return application_->handle({.method = method, .path = path, .headers = std::move(headers), .body = body});
    }
    static std::string body_of(HttpReply reply) {
        while (reply.stream && reply.stream->next(reply.body)) {
        }
        return reply.body;
    }
    RouteOptions route_options_{.version = "1", .keep_alive = 100ms, .context_tokens = 200};
    std::unique_ptr<Application> application_;
};

constexpr const char* kAsk =
    R"({"model":"one","max_tokens":50,"input":"x","messages":[{"role":"user","content":"x"}]})";

TEST_F(RoutesTest, EveryDialectAnswers) {
    EXPECT_EQ(body_of(call("GET", "/")), "Ollama is running");
    EXPECT_EQ(parse_lines(body_of(call("POST", "/api/chat", kAsk))).size(), 6U);
    EXPECT_EQ(Json::parse(body_of(call("POST", "/v1/chat/completions", kAsk)))["choices"][0]["message"]["content"],
              "hello");
    EXPECT_EQ(Json::parse(body_of(call("POST", "/v1/responses", kAsk)))["output"][0]["content"][0]["text"], "hello");
    EXPECT_EQ(Json::parse(body_of(call("POST", "/v1/messages", kAsk)))["content"][0]["text"], "hello");
    EXPECT_EQ(Json::parse(body_of(call("POST", "/v1/messages/count_tokens", kAsk)))["input_tokens"], 18);
    EXPECT_EQ(
        Json::parse(body_of(call("POST", "/api/embed", R"({"model":"one","input":["a","b"]})")))["embeddings"].size(),
        2U);
}

TEST_F(RoutesTest, ErrorsAreInTheDialectsForm) {
    route_options_.keep_alive = 1min;  // an answer that has begun when the error comes has said 200 by then
    const std::string body = R"({"model":"no","max_tokens":5,"input":"x","messages":[{"role":"user","content":"x"}]})";
    EXPECT_EQ(Json::parse(call("POST", "/api/chat", body).body)["error"], "model 'no' not found");
    EXPECT_EQ(Json::parse(call("POST", "/v1/chat/completions", body).body)["error"]["type"], "not_found_error");
    EXPECT_EQ(Json::parse(call("POST", "/v1/messages", body).body)["type"], "error");
    EXPECT_EQ(call("POST", "/v1/messages", body).status, 404);
    EXPECT_EQ(call("GET", "/api/chat").status, 405);
    EXPECT_THAT(call("GET", "/api/chat").headers, testing::Contains(testing::Pair("Allow", "POST")));
    EXPECT_THAT(call("DELETE", "/api/tags").headers, testing::Contains(testing::Pair("Allow", "GET, HEAD")));
    EXPECT_EQ(call("GET", "/nothing").status, 404);
    control_.error = {ErrorCode::kReadFailed, "gone"};
    const HttpReply failed = call("POST", "/v1/chat/completions", kAsk);
    EXPECT_EQ(failed.status, 500);
    EXPECT_THAT(failed.headers, testing::Contains(testing::Pair("x-should-retry", "false")));
}

TEST_F(RoutesTest, AMissingKeyIsRefusedInTheDialectsForm) {
    route_options_.access.api_key = "secret";
    EXPECT_EQ(call("POST", "/api/chat", kAsk).status, 401);
    EXPECT_EQ(Json::parse(call("POST", "/api/chat", kAsk).body)["error"], "Invalid API Key");
    const Json openai = Json::parse(call("POST", "/v1/chat/completions", kAsk).body);
    EXPECT_EQ(openai["error"]["type"], "authentication_error");
    const Json anthropic = Json::parse(call("POST", "/v1/messages", kAsk).body);
    EXPECT_EQ(anthropic["type"], "error");
    EXPECT_EQ(anthropic["error"]["type"], "authentication_error");
    EXPECT_EQ(call("POST", "/api/chat", kAsk, {{"authorization", "Bearer secret"}}).status, 200);
    EXPECT_EQ(call("GET", "/health").status, 200);
}

TEST_F(RoutesTest, SilenceIsFilledWithKeepAliveBytes) {
    control_.hold(true);
    const auto filled = [&](const std::string& path, bool stream) {
        Json json = Json::parse(kAsk);
        json["stream"] = stream;
        const HttpReply reply = call("POST", path, dump(json));
        std::string bytes;
        for (int i = 0; i < 400 && std::ranges::count(bytes, '\n') < 8; ++i) EXPECT_TRUE(reply.stream->next(bytes));
        return bytes;
    };
    for (const Json& line : parse_lines(filled("/api/chat", true))) EXPECT_EQ(line["message"]["content"], "");
    EXPECT_THAT(filled("/v1/chat/completions", true), testing::HasSubstr("\n: still working\n"));
    EXPECT_THAT(filled("/v1/responses", true), testing::HasSubstr("\n: still working\n"));
    EXPECT_THAT(filled("/v1/messages", true), testing::HasSubstr("event: ping\n"));
    EXPECT_EQ(filled("/api/chat", false).find_first_not_of(" \n"), std::string::npos);
}

TEST_F(RoutesTest, MetadataIsThereWhileAModelLoads) {
    std::mutex gate;
    gate.lock();
    options_.open = [&](const ModelEntry&, uint32_t) -> Result<OpenedModel> {
        const std::scoped_lock lock(gate);
        return OpenedModel{std::make_unique<FakeEngine>(), std::make_unique<FakeBatch>(control_), 200};
    };
    const auto channel = *service().generate(request("one"));
    until([&] { return service().manager().loading() == "one:latest"; });
    EXPECT_EQ(Json::parse(call("GET", "/api/tags").body)["models"].size(), 2U);
    EXPECT_TRUE(Json::parse(call("GET", "/api/ps").body)["models"].empty());
    EXPECT_EQ(Json::parse(call("GET", "/health").body)["loading"], "one:latest");
    EXPECT_EQ(call("POST", "/api/show", R"({"model":"two"})").status, 200);
    gate.unlock();
    EXPECT_EQ(text_of(gather_all(*channel)), "hello");
}

TEST_F(RoutesTest, PrefixesAreSavedAndRestoredWhereAFolderIsSet) {
    EXPECT_EQ(
        call("POST", "/prefix/save", R"({"model":"one","messages":[{"role":"user","content":"x"}],"file":"a"})").status,
        400);
    application_.reset();
    route_options_.prefix_folder = folder_.path();
    const auto saved =
        call("POST", "/prefix/save", R"({"model":"one","messages":[{"role":"user","content":"x"}],"file":"a"})");
    EXPECT_EQ(Json::parse(body_of(saved))["tokens"], 18);  // "<user>x<assistant>"
    const auto restored = call("POST", "/prefix/restore", R"({"model":"one","file":"a"})");
    EXPECT_EQ(Json::parse(body_of(restored))["tokens"], 7);
    EXPECT_EQ(call("POST", "/prefix/restore", R"({"model":"one","file":"../a"})").status, 400);
}

TEST_F(RoutesTest, PullCopiesAFileAndSaysHowFarItIs) {
    const test::TempDir elsewhere;
    std::filesystem::create_directories(elsewhere.path() + "/a b");
    write_model(elsewhere.path() + "/a b/new.gguf", "new");
    const std::string address = "file://" + elsewhere.path() + "/a%20b/new.gguf";
    const auto lines = parse_lines(body_of(call("POST", "/api/pull", dump({{"model", address}}))));
    ASSERT_GE(lines.size(), 5U);
    EXPECT_EQ(lines.front()["status"], "pulling manifest");
    EXPECT_EQ(lines[1]["completed"], lines[1]["total"]);
    EXPECT_EQ(lines.back()["status"], "success");
    const Json shown = Json::parse(call("GET", "/api/tags").body)["models"][0];
    EXPECT_EQ(shown["name"], "new:latest");
    EXPECT_EQ(lines[1]["digest"], "sha256:" + shown["digest"].get<std::string>());
    const std::string whole = body_of(call("POST", "/api/pull", dump({{"name", address}, {"stream", false}})));
    // Behind the blank lines of a slow pull.
    EXPECT_EQ(whole.substr(std::min(whole.find_first_not_of(kBlankKeepAlive), whole.size())),
              R"({"status":"success"})");
    const HttpReply missing = call("POST", "/api/pull", R"({"model":"/no/such.gguf","stream":false})");
    EXPECT_EQ(missing.status, 404);
    EXPECT_TRUE(
        parse_lines(body_of(call("POST", "/api/pull", R"({"model":"/no/such.gguf"})"))).back().contains("error"));
}

// ---- access
// ----------------------------------------------------------------------------------------------------------

TEST(AccessTest, OriginsAndHosts) {
    const Access access({.origins = {"https://*.example", "chrome-extension://*"}});
    for (const char* origin :
         {"http://localhost", "http://localhost:3000", "https://127.0.0.1:1", "app://x", "https://a.example"})
        EXPECT_TRUE(access.origin_allowed(origin)) << origin;
    for (const char* origin : {"https://evil", "http://localhost.evil", "https://example.evil", "null"})
        EXPECT_FALSE(access.origin_allowed(origin)) << origin;
    for (const char* host :
         {"localhost:11434", "127.0.0.1", "[::1]:11434", "192.168.1.5:1", "172.20.0.1", "laptop", "a.local"})
        EXPECT_TRUE(access.host_allowed(host)) << host;
    for (const char* host : {"evil.example:11434", "8.8.8.8", "172.40.0.1"})
        EXPECT_FALSE(access.host_allowed(host)) << host;
    EXPECT_TRUE(Access({.loopback_only = false}).host_allowed("evil.example"));
}

TEST(ModelNames, AreOllamas) {
    EXPECT_EQ(canonical_name("qwen3"), "qwen3:latest");
    EXPECT_EQ(canonical_name("me/qwen3:8b"), "me/qwen3:8b");
    EXPECT_EQ(canonical_name("registry.ollama.ai/library/qwen3:8b"), "qwen3:8b");
    for (const char* name : {"", "../x", "a//b", "/a", "a:", "a b", "a:b/c"})
        EXPECT_EQ(canonical_name(name), std::nullopt) << name;
    EXPECT_EQ(human_count(31400000), "31.4M");
    EXPECT_EQ(human_count(7600000000), "7.6B");
}

TEST(ModelStoreTest, FoldersTagsSplitsAndBrokenFiles) {
    const test::TempDir folder;
    std::filesystem::create_directories(folder.path() + "/me");
    for (const char* file : {"a.gguf", "a@8b.gguf", "me/b.gguf", "mmproj-a.gguf", "notes.txt"})
        test::write_test_model(folder.file(file), {{"general.architecture", "llama"}}, {});
    folder.write("broken.gguf", "GGUF");
    ModelStore store(folder.path(), {});
    std::vector<std::string> names;
    for (const auto& model : store.list()) names.push_back(model->name);
    EXPECT_THAT(names, testing::ElementsAre("a:8b", "a:latest", "me/b:latest"));
    EXPECT_NE(store.find("broken").error().status, 404);
    EXPECT_EQ(store.find("a")->get()->digest.size(), 64U);
    ASSERT_TRUE(store.copy("a", "me/c:new").has_value());
    EXPECT_TRUE(store.find("me/c:new").has_value());
    ASSERT_TRUE(store.remove("me/c:new").has_value());
    EXPECT_TRUE(store.find("a").has_value());
    ASSERT_TRUE(store.remove("a").has_value());
    EXPECT_FALSE(store.find("a").has_value());
}

// cp and rm are how a model is renamed.
TEST(ModelStoreTest, ACopyOutlivesItsModelAndOverwritesNoOther) {
    const test::TempDir folder;
    for (const char* file : {"a.gguf", "b.gguf"})
        test::write_test_model(folder.file(file), {{"general.architecture", "llama"}, {"general.name", file}}, {});
    ModelStore store(folder.path(), {});
    const ModelPointer original = *store.find("a");
    ASSERT_TRUE(store.copy("a", "c:new").has_value());
    EXPECT_EQ(store.find("c:new")->get()->digest, original->digest);
    EXPECT_EQ(store.find("c:new")->get()->files, original->files);  // not loaded twice
    ASSERT_TRUE(store.remove("a").has_value());
    EXPECT_TRUE(store.find("c:new").has_value());
    EXPECT_EQ(store.copy("c:new", "b").error().status, 400);  // b's only name
    EXPECT_EQ(std::get<std::string>(store.find("b")->get()->metadata.at("general.name")), "b.gguf");
    ASSERT_TRUE(store.copy("c:new", "d").has_value());
    ASSERT_TRUE(store.copy("b", "d").has_value());  // c:new remains
    EXPECT_EQ(std::get<std::string>(store.find("d")->get()->metadata.at("general.name")), "b.gguf");
    ASSERT_TRUE(store.copy("b", "d").has_value());
    EXPECT_EQ(store.list().size(), 3U);
}

TEST(ModelStoreTest, ModelsOutsideTheFolderAreLinkedAndNeverDeleted) {
    const test::TempDir folder, elsewhere;
    test::write_test_model(elsewhere.file("x.gguf"), {{"general.architecture", "llama"}}, {});
    ModelStore store(folder.path(), {elsewhere.file("x.gguf")});
    ASSERT_TRUE(store.copy("x", "y").has_value());
    EXPECT_TRUE(std::filesystem::is_symlink(folder.file("y.gguf")));
    EXPECT_EQ(store.remove("x").error().status, 400);
    ASSERT_TRUE(store.remove("y").has_value());
    EXPECT_FALSE(store.find("y").has_value());
    EXPECT_TRUE(store.find("x").has_value());
}

TEST(ModelImport, AddressesBecomePaths) {
    EXPECT_EQ(local_path("/a b.gguf"), "/a b.gguf");
    EXPECT_EQ(local_path("/100%25.gguf"), "/100%25.gguf");
    EXPECT_EQ(local_path("file:///a%20b%C3%A9.gguf"), "/a b\xC3\xA9.gguf");
    EXPECT_EQ(local_path("file://localhost/a.gguf"), "/a.gguf");
    EXPECT_EQ(local_path("file:///a%2"), "/a%2");
}

TEST(ModelImport, AFailedOrCancelledCopyLeavesNothing) {
    const test::TempDir folder;
    folder.write("from", std::string(100, 'x'));
    folder.write("to", "old");
    EXPECT_EQ(copy_file(folder.file("from"), folder.file("to"), [](uint64_t) { return false; }).error().status, 499);
    EXPECT_EQ(copy_file(folder.file("no"), folder.file("to"), [](uint64_t) { return true; }).error().status, 404);
    EXPECT_EQ(std::filesystem::file_size(folder.file("to")), 3U);
    std::filesystem::last_write_time(folder.file("from"), std::filesystem::file_time_type(1000s));
    ASSERT_TRUE(copy_file(folder.file("from"), folder.file("to"), [](uint64_t) { return true; }).has_value());
    EXPECT_EQ(std::filesystem::last_write_time(folder.file("to")), std::filesystem::file_time_type(1000s));
    const auto files = std::filesystem::directory_iterator(folder.path());
    EXPECT_EQ(std::distance(begin(files), end(files)), 2);
}

}  // namespace
}  // namespace hypura::server
