// Ollama's endpoints.
#include "server/ollama.h"
#include "server/route_support.h"
#include "server/text_util.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

namespace hypura::server {
namespace {

// The protocol that is spoken, not our own version: clients compare it (VS Code wants 0.6.4) and turn it into numbers.
constexpr std::string_view kProtocolVersion = "0.40.12";

HttpReply error_reply(const ApiError& error) { return json_reply(ollama::error_body(error), error.status); }

Json details_json(const ModelEntry& model, uint32_t context_tokens) {
    return {{"parent_model", ""},
            {"format", "gguf"},
            {"family", model.shape.architecture},
            {"families", Json::array({model.shape.architecture})},
            {"parameter_size", human_count(model.parameters)},
            {"quantization_level", model.quantization},
            {"context_length", context_tokens},
            {"embedding_length", model.shape.embedding}};
}

Json tag_json(const ModelEntry& model, uint32_t context_tokens) {
    return {{"name", model.name},
            {"model", model.name},
            {"modified_at", rfc3339(model.modified)},
            {"size", model.size_bytes},
            {"digest", model.digest},
            {"details", details_json(model, context_tokens)},
            {"capabilities", model.capabilities()}};
}

// ---- show ----------------------------------------------------------------------------------------------------------

Json metadata_json(const gguf::Value& value) {
    return std::visit([](const auto& v) { return Json(v); }, value);
}

// Clients take the first key that ends in ".context_length": ours comes first, and says what may really be used.
Json model_info(const ModelEntry& model, const gguf::Metadata& metadata, uint32_t context_tokens) {
    const std::string architecture = model.shape.architecture;
    Json info = {{"general.architecture", architecture},
                 {architecture + ".context_length", context_tokens},
                 {"general.basename", model.name.substr(0, model.name.find(':'))},
                 {"general.parameter_count", model.parameters}};
    for (const auto& [key, value] : metadata)
        if (key != "general.name" && key != "tokenizer.chat_template" && key != architecture + ".context_length")
            info[key] = metadata_json(value);
    return info;
}

// One a line, the name padded to 30 columns: Continue and Zed parse this.
std::string parameters_text(const ModelEntry& model, uint32_t context_tokens) {
    std::string text = std::format("{:<30} {}", "num_ctx", context_tokens);
    const auto temperature = model.metadata.find("general.sampling.temp");
    if (temperature != model.metadata.end())
        text += std::format("\n{:<30} {}", "temperature", dump(metadata_json(temperature->second)));
    return text;
}

// Old clients look for these words in the text of Go's template language.
std::string template_text(const ModelEntry& model) {
    return model.infill_tokens.empty() ? model.chat_template : model.chat_template + "{{- /* .Suffix */ -}}";
}

Json show_json(const ModelEntry& model, const gguf::Metadata& metadata, uint32_t context_tokens) {
    const auto license = metadata.find("general.license");
    return {{"license", license == metadata.end() ? Json("") : metadata_json(license->second)},
            {"modelfile", "FROM " + model.path + "\n"},
            {"parameters", parameters_text(model, context_tokens)},
            {"template", template_text(model)},
            {"system", ""},
            {"details", details_json(model, context_tokens)},
            {"model_info", model_info(model, metadata, context_tokens)},
            {"capabilities", model.capabilities()},
            {"modified_at", rfc3339(model.modified)}};
}

HttpReply show(Service& service, const RouteOptions& options, const HttpRequest& http) {
    const auto body = parse_body(http.body);
    if (!body) return error_reply(body.error());
    const auto name = ollama::parse_model_name(*body);
    if (!name) return error_reply(name.error());
    const auto model = service.store().find(*name);
    if (!model) return error_reply(model.error());
    const bool verbose = read_bool(*body, "verbose").value_or(false).value_or(false);
    gguf::Metadata metadata = (*model)->metadata;
    if (verbose)
        if (auto file = gguf::open_model((*model)->path)) metadata = std::move(file->metadata);
    Json json = show_json(**model, metadata, options.usable_context(**model));
    // VS Code shows this key as the model's name.
    if (http.header("user-agent").starts_with("GitHubCopilotChat/")) json["model_info"]["general.basename"] = *name;
    return json_reply(dump(json));
}

// ---- lists ---------------------------------------------------------------------------------------------------------

HttpReply tags(Service& service, const RouteOptions& options) {
    Json list = Json::array();
    for (const ModelPointer& model : service.store().list())
        list.push_back(tag_json(*model, options.usable_context(*model)));
    return json_reply(dump({{"models", std::move(list)}}));
}

HttpReply running(Service& service) {
    Json list = Json::array();
    for (const ModelManager::Status& status : service.manager().loaded())
        list.push_back({{"name", status.model->name},
                        {"model", status.model->name},
                        {"size", status.memory_bytes},
                        {"digest", status.model->digest},
                        {"details", details_json(*status.model, status.context_tokens)},
                        {"expires_at", rfc3339(status.expires)},
                        {"size_vram", 0},
                        {"context_length", status.context_tokens}});
    return json_reply(dump({{"models", std::move(list)}}));
}

// ---- models come and go --------------------------------------------------------------------------------------------

HttpReply copy(Service& service, const HttpRequest& http) {
    const auto body = parse_body(http.body);
    if (!body) return error_reply(body.error());
    const auto source = read_string(*body, "source");
    const auto destination = read_string(*body, "destination");
    if (!source || !destination || !*source || !*destination)
        return error_reply({400, "source and destination are required"});
    const ApiStatus copied = service.store().copy(**source, **destination);
    return copied ? HttpReply{} : error_reply(copied.error());
}

HttpReply remove(Service& service, const HttpRequest& http) {
    const auto body = parse_body(http.body);
    if (!body) return error_reply(body.error());
    const auto name = ollama::parse_model_name(*body);
    if (!name) return error_reply(name.error());
    const auto model = service.store().find(*name);
    if (!model) return error_reply(model.error());
    const ApiStatus removed = service.store().remove(*name);
    if (!removed) return error_reply(removed.error());
    service.manager().unload((*model)->name);
    return {};
}

// A thread of its own copies a model and says how far it is. Whoever wanted it and goes away ends it.
class PullJob {
public:
    PullJob(ModelStore& store, std::string source)
        : thread_([this, &store, source = std::move(source)] { work(store, source); }) {}
    PullJob(const PullJob&) = delete;
    PullJob& operator=(const PullJob&) = delete;
    ~PullJob() {
        given_up_ = true;
        thread_.join();
    }

    // Waits a moment for lines and appends them; the result once it is there.
    std::optional<ApiStatus> take(std::string& lines, std::chrono::milliseconds patience) {
        std::unique_lock lock(mutex_);
        ready_.wait_for(lock, patience, [this] { return !lines_.empty() || result_; });
        lines += std::exchange(lines_, {});
        return result_;
    }

private:
    void say(const Json& json) {
        {
            const std::scoped_lock lock(mutex_);
            lines_ += dump(json) + "\n";
        }
        ready_.notify_one();
    }
    void work(ModelStore& store, const std::string& source) {
        say({{"status", "pulling manifest"}});
        const auto model = store.import(source, [this](const ModelPointer& from, uint64_t done_bytes) {
            say({{"status", "pulling " + from->digest.substr(0, 12)},
                 {"digest", "sha256:" + from->digest},
                 {"total", from->size_bytes},
                 {"completed", done_bytes}});
            return !given_up_;
        });
        if (model) {
            for (const char* status : {"verifying sha256 digest", "writing manifest", "success"})
                say({{"status", status}});
        } else {
            say({{"error", model.error().message}});
        }
        const std::scoped_lock lock(mutex_);
        result_ = model.transform([](const ModelPointer&) {});
        ready_.notify_one();
    }

    std::mutex mutex_;
    std::condition_variable ready_;
    std::string lines_;
    std::optional<ApiStatus> result_;
    std::atomic<bool> given_up_{false};
    std::thread thread_;
};

class PullStream final : public BodyStream {
public:
    PullStream(ModelStore& store, const std::string& source) : job_(store, source) {}
    bool next(std::string& bytes) override { return !job_.take(bytes, std::chrono::milliseconds(50)); }

private:
    PullJob job_;
};

bool names_a_file(const std::string& name) { return name.starts_with("file://") || name.starts_with('/'); }

HttpReply pull_known(const ApiResult<ModelPointer>& model, const std::string& name, bool stream) {
    if (!model)
        return error_reply(
            {model.error().status,
             "pull model manifest: file does not exist: '" + name +
                 "' is not in the folder of models, and nothing is fetched from a registry; give the path or "
                 "file:// address of a GGUF file"});
    if (!stream) return json_reply(R"({"status":"success"})");
    return {.content_type = "application/x-ndjson",
            .body = "{\"status\":\"pulling manifest\"}\n{\"status\":\"success\"}\n"};
}

HttpReply pull(Service& service, const RouteOptions& options, const HttpRequest& http) {
    const auto body = parse_body(http.body);
    if (!body) return error_reply(body.error());
    const auto name = ollama::parse_model_name(*body);
    if (!name) return error_reply(name.error());
    const bool stream = read_bool(*body, "stream").value_or(true).value_or(true);
    if (!names_a_file(*name)) return pull_known(service.store().find(*name), *name, stream);
    if (stream)
        return {.content_type = "application/x-ndjson", .stream = std::make_shared<PullStream>(service.store(), *name)};
    const auto job = std::make_shared<PullJob>(service.store(), *name);
    const auto wait = [job](std::chrono::milliseconds patience) -> std::optional<LateBody> {
        std::string lines;
        const auto result = job->take(lines, patience);
        if (!result) return std::nullopt;
        if (!*result) return LateBody{ollama::error_body(result->error()), result->error().status};
        return LateBody{R"({"status":"success"})", 200};
    };
    return answer_later(wait, stream_options(http, options, false));
}

// ---- embeddings ----------------------------------------------------------------------------------------------------

HttpReply embed(Service& service, const RouteOptions& options, const HttpRequest& http, bool old_form) {
    const auto body = parse_body(http.body);
    if (!body) return error_reply(body.error());
    const auto request = old_form ? ollama::parse_embeddings(*body) : ollama::parse_embed(*body);
    if (!request) return error_reply(request.error());
    if (const auto model = service.store().find(request->model); !model) {
        if (model.error().status != 404) return error_reply(model.error());
        return error_reply({404, std::format("model \"{}\" not found, try pulling it first", request->model)});
    }
    const auto client = std::make_shared<ClientLink>();
    return later<Embeddings>([&](auto done) { return service.embed(*request, client, std::move(done)); },
                             [old_form, request = *request](const Embeddings& embeddings) {
                                 return old_form ? ollama::embeddings_body(embeddings)
                                                 : ollama::embed_body(request, embeddings);
                             },
                             ollama::error_body, stream_options(http, options, false), client);
}

}  // namespace

void add_ollama_routes(Router& router, Service& service, const RouteOptions& options) {
    static constexpr Generator kChat{ollama::parse_chat, ollama::chat_reply, ollama::error_body, ollama::only_loads};
    static constexpr Generator kGenerate{ollama::parse_generate, ollama::generate_reply, ollama::error_body,
                                         ollama::only_loads};
    router.add("GET", "/", [](const HttpRequest&) {
        return HttpReply{.content_type = "text/plain; charset=utf-8", .body = "Ollama is running"};
    });
    router.add("GET", "/api/version",
               [](const HttpRequest&) { return json_reply(dump({{"version", kProtocolVersion}})); });
    router.add("GET", "/api/tags", [&](const HttpRequest&) { return tags(service, options); });
    router.add("GET", "/api/ps", [&](const HttpRequest&) { return running(service); });
    router.add("POST", "/api/show", [&](const HttpRequest& http) { return show(service, options, http); });
    router.add("POST", "/api/chat", [&](const HttpRequest& http) { return generate(kChat, service, options, http); });
    router.add("POST", "/api/generate",
               [&](const HttpRequest& http) { return generate(kGenerate, service, options, http); });
    router.add("POST", "/api/embed", [&](const HttpRequest& http) { return embed(service, options, http, false); });
    router.add("POST", "/api/embeddings", [&](const HttpRequest& http) { return embed(service, options, http, true); });
    router.add("POST", "/api/pull", [&](const HttpRequest& http) { return pull(service, options, http); });
    router.add("POST", "/api/copy", [&](const HttpRequest& http) { return copy(service, http); });
    router.add("DELETE", "/api/delete", [&](const HttpRequest& http) { return remove(service, http); });
}

}  // namespace hypura::server
