// Health and metrics, for those who operate a server.
#include "server/route_support.h"

#include <format>

namespace hypura::server {
namespace {

// A server that loads a model is healthy: it answers, and requests wait. Clients that want to know see "loading".
HttpReply health(Service& service) {
    Json json = {{"status", "ok"}};
    if (const std::string loading = service.manager().loading(); !loading.empty()) json["loading"] = loading;
    return json_reply(dump(json));
}

// https://prometheus.io/docs/instrumenting/exposition_formats/
class MetricsText {
public:
    void add(std::string_view name, std::string_view kind, std::string_view help, double value,
             const std::string& labels = "") {
        if (name != last_) text_ += std::format("# HELP hypura_{0} {1}\n# TYPE hypura_{0} {2}\n", name, help, kind);
        last_ = name;
        text_ += std::format("hypura_{}{} {}\n", name, labels, value);
    }
    std::string take() { return std::move(text_); }

private:
    std::string text_, last_;
};

std::string label(std::string_view model) { return std::format("{{model=\"{}\"}}", model); }

void add_requests(MetricsText& text, const ServiceCounters& counters, const ModelManager& manager) {
    const auto number = [](const auto& value) { return static_cast<double>(value.load()); };
    constexpr double kPerSecond = 1e6;
    text.add("requests_total", "counter", "Requests accepted.", number(counters.requests));
    text.add("requests_failed_total", "counter", "Of these, ended with an error.", number(counters.failed));
    text.add("requests_cancelled_total", "counter", "Of these, given up by the client.", number(counters.cancelled));
    text.add("prompt_tokens_total", "counter", "Tokens of prompts, cached ones included.",
             number(counters.prompt_tokens));
    text.add("prompt_cached_tokens_total", "counter", "Of these, found in the cache.", number(counters.cached_tokens));
    text.add("answer_tokens_total", "counter", "Tokens generated.", number(counters.answer_tokens));
    text.add("prompt_seconds_total", "counter", "Time to first tokens, summed over requests.",
             number(counters.prompt_us) / kPerSecond);
    text.add("answer_seconds_total", "counter", "Time from first to last tokens, summed over requests.",
             number(counters.answer_us) / kPerSecond);
    text.add("requests_waiting", "gauge", "Requests in the queue.", static_cast<double>(manager.waiting()));
    text.add("model_loads_total", "counter", "Models loaded since the start.", static_cast<double>(manager.loads()));
}

struct ModelMetric {
    std::string_view name, kind, help;
    double (*value)(const ModelManager::Status& status);
};

constexpr ModelMetric kModelMetrics[] = {
    {"model_busy", "gauge", "Requests that the model works on.",
     [](const auto& s) { return static_cast<double>(s.busy); }},
    {"model_memory_bytes", "gauge", "Weights in memory, slots and context.",
     [](const auto& s) { return static_cast<double>(s.memory_bytes); }},
    {"model_context_tokens", "gauge", "Tokens that the context holds.",
     [](const auto& s) { return static_cast<double>(s.context_tokens); }},
    {"model_context_used_tokens", "gauge", "Of these, in use.",
     [](const auto& s) { return static_cast<double>(s.counters.used_tokens); }},
    {"model_passes_total", "counter", "Passes over the weights.",
     [](const auto& s) { return static_cast<double>(s.counters.passes); }},
    {"model_failed_passes_total", "counter", "Of these, ended by an error.",
     [](const auto& s) { return static_cast<double>(s.counters.failed_passes); }},
    {"model_decode_tokens_total", "counter", "Tokens evaluated one a sequence and pass.",
     [](const auto& s) { return static_cast<double>(s.counters.decode_tokens); }},
    {"model_reused_tokens_total", "counter", "Prompt tokens found in the context.",
     [](const auto& s) { return static_cast<double>(s.counters.reused_tokens); }},
    {"model_drafted_tokens_total", "counter", "Tokens that were guessed, and checked in passes.",
     [](const auto& s) { return static_cast<double>(s.report.drafted_tokens); }},
    {"model_accepted_tokens_total", "counter", "Of these, right.",
     [](const auto& s) { return static_cast<double>(s.report.accepted_tokens); }},
    {"model_demands_total", "counter", "Streamed weights asked for.",
     [](const auto& s) { return static_cast<double>(s.report.demands); }},
    {"model_hits_total", "counter", "Of these, already in memory.",
     [](const auto& s) { return static_cast<double>(s.report.hits); }},
    {"model_read_bytes_total", "counter", "Bytes read from the model's file.",
     [](const auto& s) { return static_cast<double>(s.report.reads.bytes); }},
    {"model_read_failures_total", "counter", "Reads that failed for good.",
     [](const auto& s) { return static_cast<double>(s.report.reads.failures); }},
};

HttpReply metrics(Service& service) {
    MetricsText text;
    add_requests(text, service.counters(), service.manager());
    const auto loaded = service.manager().loaded();
    for (const ModelMetric& metric : kModelMetrics)
        for (const ModelManager::Status& status : loaded)
            text.add(metric.name, metric.kind, metric.help, metric.value(status), label(status.model->name));
    return {.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = text.take()};
}

}  // namespace

void add_status_routes(Router& router, Service& service, const RouteOptions&) {
    for (const char* path : {"/health", "/v1/health"})
        router.add("GET", path, [&](const HttpRequest&) { return health(service); });
    router.add("GET", "/metrics", [&](const HttpRequest&) { return metrics(service); });
}

}  // namespace hypura::server
