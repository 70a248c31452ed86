// hypura serve: the models of a folder behind the APIs of Ollama, OpenAI and Anthropic.
#include "cli/command.h"
#include "cli/console.h"
#include "cli/options.h"
#include "server/http_server.h"
#include "server/open_model.h"
#include "server/routes.h"
#include "server/text_util.h"

#include <CLI/CLI.hpp>

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <format>
#include <map>
#include <memory>
#include <ranges>
#include <thread>

namespace hypura::cli {
namespace {

// Flags hold text where an OLLAMA_* variable may stand in: the flag wins, then the variable, then the default.
struct ServeFlags {
    EngineFlags engine;
    std::vector<std::string> models;
    std::string folder, address, keep_alive, origins, api_key, prefixes;
    std::string context, parallel, queue, loaded;
    bool names_cache_type = false;  // --kv was given
    double ping_seconds = 15;
    std::string version;
    std::map<std::string, std::string> variables;

    std::string either(const std::string& flag, const char* variable, const std::string& otherwise) const;
};

// Service files and .env files leave quotation marks and blanks around values; like Ollama we do not mind.
std::string without_quotes(std::string_view text) {
    constexpr std::string_view kAround = " \t\r\n\"'";
    const size_t begin = text.find_first_not_of(kAround);
    if (begin == std::string_view::npos) return {};
    return std::string(text.substr(begin, text.find_last_not_of(kAround) - begin + 1));
}

std::string ServeFlags::either(const std::string& flag, const char* variable, const std::string& otherwise) const {
    if (!flag.empty()) return flag;
    const auto value = variables.find(variable);
    const std::string text = value == variables.end() ? std::string() : without_quotes(value->second);
    return text.empty() ? otherwise : text;
}

Result<uint32_t> to_count(const std::string& text, std::string_view what, uint32_t least, uint32_t most) {
    uint32_t number = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || rest != text.data() + text.size() || number < least || number > most)
        return fail(ErrorCode::kInvalidArgument, "{}: '{}' is not a number from {} to {}", what, text, least, most);
    return number;
}

// 0 means "as you like" for some of Ollama's variables.
Result<uint32_t> to_count_or(const std::string& text, std::string_view what, uint32_t least, uint32_t most,
                             uint32_t zero) {
    if (text == "0") return zero;
    return to_count(text, what, least, most);
}

std::vector<std::string> split_at_commas(const std::string& text) {
    std::vector<std::string> parts;
    for (const auto part : std::views::split(text, ',')) parts.emplace_back(part.begin(), part.end());
    std::erase_if(parts, [](const std::string& part) { return part.empty(); });
    return parts;
}

// ---- flags to options ----------------------------------------------------------------------------------------------

struct ServeOptions {
    server::OpenOptions open;
    server::ManagerOptions manager;
    server::RouteOptions routes;
    server::ListenAddress address;
    std::string folder;
    std::vector<std::string> models;
};

constexpr uint32_t kDefaultContext = 8192;
constexpr uint32_t kDefaultParallel = 8;

Status set_limits(const ServeFlags& flags, ServeOptions& options) {
    constexpr uint32_t kMostContext = 1U << 22U;
    HYPURA_ASSIGN(options.open.context_tokens,
                  to_count_or(flags.either(flags.context, "OLLAMA_CONTEXT_LENGTH", std::format("{}", kDefaultContext)),
                              "--ctx", 16, kMostContext, kDefaultContext));
    HYPURA_ASSIGN(options.open.sequences,
                  to_count_or(flags.either(flags.parallel, "OLLAMA_NUM_PARALLEL", std::format("{}", kDefaultParallel)),
                              "--parallel", 1, 128, kDefaultParallel));
    HYPURA_ASSIGN(options.open.max_loaded,
                  to_count_or(flags.either(flags.loaded, "OLLAMA_MAX_LOADED_MODELS", "1"), "--max-loaded", 1, 64, 1));
    HYPURA_ASSIGN(options.manager.max_queue,
                  to_count(flags.either(flags.queue, "OLLAMA_MAX_QUEUE", "512"), "--queue", 1, 100000));
    options.manager.sequences = options.open.sequences;
    options.manager.max_loaded = options.open.max_loaded;
    options.routes.context_tokens = options.open.context_tokens;
    options.routes.sequences = options.open.sequences;
    return {};
}

Status set_keep_alive(const ServeFlags& flags, ServeOptions& options) {
    const auto keep_alive = server::parse_keep_alive_text(flags.either(flags.keep_alive, "OLLAMA_KEEP_ALIVE", "5m"));
    if (!keep_alive) return fail(ErrorCode::kInvalidArgument, "--keep-alive: {}", keep_alive.error().message);
    options.manager.keep_alive = keep_alive->value_or(options.manager.keep_alive);
    constexpr double kLeastPing = 0.05, kMostPing = 3600;
    if (!(flags.ping_seconds >= kLeastPing && flags.ping_seconds <= kMostPing))
        return fail(ErrorCode::kInvalidArgument, "--ping: {} is not from {} to {} seconds", flags.ping_seconds,
                    kLeastPing, kMostPing);
    options.routes.keep_alive = std::chrono::milliseconds(static_cast<int64_t>(flags.ping_seconds * 1000));
    return {};
}

Status set_access(const ServeFlags& flags, ServeOptions& options) {
    HYPURA_ASSIGN(options.address, server::parse_address(flags.either(flags.address, "OLLAMA_HOST", "")));
    options.routes.access.loopback_only = server::is_loopback(options.address.host);
    options.routes.access.origins = split_at_commas(flags.either(flags.origins, "OLLAMA_ORIGINS", ""));
    options.routes.access.api_key = flags.either(flags.api_key, "HYPURA_API_KEY", "");
    options.routes.version = flags.version;
    options.routes.prefix_folder = flags.prefixes;
    return {};
}

Result<ServeOptions> to_serve_options(const ServeFlags& flags) {
    ServeOptions options;
    EngineFlags engine = flags.engine;
    if (!flags.names_cache_type) engine.cache_type = flags.either("", "OLLAMA_KV_CACHE_TYPE", engine.cache_type);
    HYPURA_ASSIGN(options.open.engine, to_engine_options(engine));
    HYPURA_TRY(set_limits(flags, options));
    HYPURA_TRY(set_keep_alive(flags, options));
    HYPURA_TRY(set_access(flags, options));
    options.folder = flags.either(flags.folder, "OLLAMA_MODELS", "");
    options.models = flags.models;
    if (options.folder.empty() && options.models.empty())
        return fail(ErrorCode::kInvalidArgument, "name models, or a folder of them with --models or OLLAMA_MODELS");
    options.manager.open = [open = options.open](const server::ModelEntry& model, uint32_t nth) {
        return server::open_for_serving(open, model, nth);
    };
    return options;
}

// ---- serving -------------------------------------------------------------------------------------------------------

// Blocked in every thread, and waited for by one: a signal handler may not stop a server.
class StopSignals {
public:
    StopSignals() {
        sigemptyset(&signals_);
        for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals_, signal);
        ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    }
    void wait() const {
        int signal = 0;
        ::sigwait(&signals_, &signal);
    }

private:
    sigset_t signals_{};
};

// A model that was named must be there, under a name of its own.
Status check_named(const std::string& path, const std::vector<server::ModelPointer>& served) {
    const auto model = gguf::open_model(path);
    if (!model) return std::unexpected(model.error());
    std::error_code error;
    const std::string real = std::filesystem::canonical(path, error).string();
    const auto is_served = [&real](const auto& entry) { return std::ranges::contains(entry->part_paths, real); };
    if (std::ranges::none_of(served, is_served))
        return fail(ErrorCode::kInvalidArgument, "{}: another model has the same name: give one of the files another",
                    path);
    return {};
}

// One in the folder that cannot be read is only left out.
Status check_models(server::ModelStore& store, const ServeOptions& options) {
    std::error_code error;
    if (!options.folder.empty() && !std::filesystem::is_directory(options.folder, error))
        return fail(ErrorCode::kNotFound, "{}: no such folder", options.folder);
    const std::vector<server::ModelPointer> served = store.list();
    for (const std::string& path : options.models) HYPURA_TRY(check_named(path, served));
    for (const server::ModelPointer& model : served) print_note(std::format("serving {}\n", model->name));
    if (served.empty()) print_note(std::format("no models in {} yet\n", options.folder));
    return {};
}

std::string address_text(const std::string& host, int port) {
    return host.contains(':') ? std::format("http://[{}]:{}", host, port) : std::format("http://{}:{}", host, port);
}

Status serve(const ServeFlags& flags) {
    HYPURA_ASSIGN(const ServeOptions options, to_serve_options(flags));
    const StopSignals signals;
    server::ModelStore store(options.folder, options.models);
    HYPURA_TRY(check_models(store, options));
    server::Service service(store, options.manager);
    const server::Application application(service, options.routes);
    server::HttpServer http([&application](const server::HttpRequest& request) { return application.handle(request); });
    HYPURA_ASSIGN(const int port, http.bind(options.address));
    print_note(std::format("listening on {}\n", address_text(options.address.host, port)));

    std::thread stopper([&] {
        signals.wait();
        http.stop();
    });
    const Status status = http.serve();
    if (!status) ::kill(::getpid(), SIGTERM);  // for the thread that waits
    stopper.join();
    return status;
}

}  // namespace

void add_serve(CLI::App& app, CommandContext& context) {
    auto flags = std::make_shared<ServeFlags>();
    CLI::App* command = app.add_subcommand("serve", "Serve models to the clients of Ollama, OpenAI and Anthropic");
    command->add_option("MODEL", flags->models, "GGUF files");
    command->add_option("--models", flags->folder, "a folder of GGUF files ($OLLAMA_MODELS)");
    command->add_option("--host", flags->address, "address to listen on ($OLLAMA_HOST; 127.0.0.1:11434)");
    command->add_option("--parallel", flags->parallel, "requests of a model at once ($OLLAMA_NUM_PARALLEL; 8)");
    command->add_option("--queue", flags->queue, "requests that may wait ($OLLAMA_MAX_QUEUE; 512)");
    command->add_option("--ctx", flags->context,
                        "tokens of context, shared by a model's requests ($OLLAMA_CONTEXT_LENGTH; 8192)");
    command->add_option("--keep-alive", flags->keep_alive, "how long an idle model stays ($OLLAMA_KEEP_ALIVE; 5m)");
    command->add_option("--max-loaded", flags->loaded, "models at once ($OLLAMA_MAX_LOADED_MODELS; 1)");
    command->add_option("--origins", flags->origins, "further origins of browsers, with * ($OLLAMA_ORIGINS)");
    command->add_option("--api-key", flags->api_key, "ask clients for this key ($HYPURA_API_KEY)");
    command->add_option("--prefixes", flags->prefixes, "a folder where /prefix/save keeps processed prompts");
    command->add_option("--ping", flags->ping_seconds, "seconds of silence after which a client hears something");
    add_memory_flags(*command, flags->engine, context.environment);
    add_draft_flag(*command, flags->engine);
    command->callback([flags, command, &context] {
        flags->version = context.version;
        flags->variables = context.environment.serve;
        flags->names_cache_type = command->count("--kv") > 0;
        context.action = [flags] { return serve(*flags); };
    });
}

}  // namespace hypura::cli
