#include "gguf/synthetic.h"

#include "base/check.h"
#include "gguf/random.h"
#include "gguf/synthetic_tokenizer.h"
#include "gguf/synthetic_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <format>
#include <memory>
#include <numeric>

namespace hypura::gguf {
namespace {

// What distinguishes the architectures, as far as a generator has to know.
struct Architecture {
    std::string_view name;
    std::string_view file_name;  // general.architecture
    bool experts = false;        // has routed experts
    bool dense = false;          // may have none
    bool query_key_norms = false;
    bool attention_biases = false;
    bool heads_fill_width = false;  // heads * head_dim must equal the model's width
    bool gpt_oss = false;           // biases everywhere, attention sinks, another name for the second norm
};

constexpr std::array kArchitectures = {
    Architecture{.name = "llama", .file_name = "llama", .experts = true, .dense = true},
    Architecture{.name = "mixtral", .file_name = "llama", .experts = true},
    Architecture{
        .name = "qwen2", .file_name = "qwen2", .dense = true, .attention_biases = true, .heads_fill_width = true},
    Architecture{.name = "qwen3", .file_name = "qwen3", .dense = true, .query_key_norms = true},
    Architecture{.name = "qwen3moe", .file_name = "qwen3moe", .experts = true, .query_key_norms = true},
    Architecture{.name = "gpt-oss", .file_name = "gpt-oss", .experts = true, .attention_biases = true, .gpt_oss = true},
};
constexpr std::array<std::string_view, 6> kArchitectureNames = {"llama", "mixtral",  "qwen2",
                                                                "qwen3", "qwen3moe", "gpt-oss"};
constexpr std::array<std::string_view, 9> kQuantizations = {"f16",  "q8_0",  "q4_0",   "q4_K",  "q5_K",
                                                            "q6_K", "mxfp4", "q4_k_m", "q5_k_m"};

// Scales of the weights. Attention is sharp and strong enough that a token's successor depends on its context: else
// greedy generation would be a fixed map from token to token and soon run in a short circle.
constexpr double kQueryGain = 3.0;
constexpr double kAttentionVariance = 1.0;    // that all layers together may add to the embedding's variance of 1
constexpr double kFeedForwardVariance = 1.0;  // likewise, before the activation function takes its part
constexpr double kResidualVariance = 0.4;     // added in all, as measured: averaging and activations take most away
constexpr double kLogitDeviation = 4.0;
constexpr double kTopicLogit = 7.0;        // advantage of tokens of the current topic
constexpr double kRouterDeviation = 1.28;  // of a Gumbel variable, with which top-k would draw by exp(bias) exactly
constexpr double kSharedAmplitude = 0.3;   // of the shared direction in embeddings, when there is a router skew

enum class Matrix { kQuery, kKey, kValue, kAttentionOutput, kGate, kUp, kDown };

// llama.cpp's rule for the layers that deserve more bits: the first and last eighth, and every third in between.
bool deserves_more_bits(uint64_t layer, uint64_t layers) {
    const uint64_t eighth = layers / 8;
    return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

ElementType named(std::string_view name) {
    const auto type = element_type_by_name(name);
    HYPURA_CHECK(type.has_value());
    return *type;
}

const Architecture* find_architecture(std::string_view name) {
    const auto found = std::ranges::find(kArchitectures, name, &Architecture::name);
    return found == kArchitectures.end() ? nullptr : &*found;
}

// Which element type each matrix gets.
class TypeRules {
public:
    explicit TypeRules(const SyntheticSpec& spec)
        : layers_(spec.layers), experts_(spec.experts), mix_(spec.quantization.ends_with("_k_m")) {
        base_ = named(mix_ ? spec.quantization.substr(0, 4) : spec.quantization);
    }

    ElementType matrix(Matrix matrix, uint64_t layer, uint64_t row_elements) const {
        return fitted(mix_ ? mixed(matrix, layer) : uniform(matrix), row_elements);
    }

    // Embeddings carry the topics, which are not encoded in all types; published mixes use the base type here.
    ElementType embedding() const { return base_.name == "f16" ? base_ : named("q8_0"); }

    ElementType output(uint64_t row_elements) const {
        const bool as_embedding = base_.name == "f16" || base_.name == "q8_0" || base_.name == "mxfp4";
        return as_embedding ? embedding() : fitted(named("q6_K"), row_elements);
    }

private:
    // MXFP4 is for experts only, as in the published files.
    ElementType uniform(Matrix matrix) const {
        const bool expert = experts_ > 0 && matrix >= Matrix::kGate;
        return base_.name == "mxfp4" && !expert ? named("q8_0") : base_;
    }

    ElementType mixed(Matrix matrix, uint64_t layer) const {
        const bool eight_experts = experts_ == 8;  // Mixtral: attention is small beside the experts
        if (eight_experts && (matrix == Matrix::kKey || matrix == Matrix::kValue)) return named("q8_0");
        if (eight_experts && matrix == Matrix::kAttentionOutput) return named("q5_K");
        const bool sensitive = matrix == Matrix::kValue || matrix == Matrix::kDown;
        return sensitive && deserves_more_bits(layer, layers_) ? named("q6_K") : base_;
    }

    // Rows must hold whole blocks.
    static ElementType fitted(ElementType type, uint64_t row_elements) {
        return row_elements % type.block_elements == 0 ? type : named("q8_0");
    }

    uint64_t layers_;
    uint64_t experts_;
    bool mix_;
    ElementType base_{};
};

// Collects tensors and what they are drawn from, in file order.
class ModelBuilder {
public:
    explicit ModelBuilder(const SyntheticSpec& spec)
        : spec_(spec), architecture_(*find_architecture(spec.architecture)), types_(spec) {}

    void build() {
        add_embedding();
        for (uint64_t layer = 0; layer < spec_.layers; ++layer) add_layer(layer);
        add_vector("output_norm.weight", spec_.embedding, {.mean = 1});
        add_output();
    }

    std::vector<TensorSpec> tensors;
    std::vector<WeightRecipe> recipes;

private:
    void add(std::string name, ElementType type, std::vector<uint64_t> shape, WeightRecipe recipe) {
        tensors.push_back({std::move(name), type, std::move(shape)});
        recipes.push_back(std::move(recipe));
    }

    void add_vector(std::string name, uint64_t elements, WeightRecipe recipe) {
        add(std::move(name), named("f32"), {elements}, std::move(recipe));
    }

    // `gain`: deviation of an output element when inputs have deviation 1.
    void add_matrix(const std::string& name, Matrix matrix, std::vector<uint64_t> shape, double gain) {
        const ElementType type = types_.matrix(matrix, layer_, shape[0]);
        const double deviation = gain / std::sqrt(static_cast<double>(shape[0]));
        add(name, type, std::move(shape), {.deviation = deviation});
    }

    std::string in_layer(std::string_view name) const { return std::format("blk.{}.{}", layer_, name); }
    double layers() const { return static_cast<double>(spec_.layers); }
    double width() const { return static_cast<double>(spec_.embedding); }

    // Deviation of the residual stream where the layer reads it: the part of the embedding shrinks as layers add
    // theirs.
    double residual_deviation(double layer) const { return std::sqrt(1 + kResidualVariance * layer / layers()); }

    double shared_variance() const { return spec_.router_skew > 0 ? kSharedAmplitude * kSharedAmplitude : 0; }
    double topic_variance() const { return spec_.locality * (1 - shared_variance()); }

    void add_embedding() {
        WeightRecipe recipe{.deviation = std::sqrt(1 - shared_variance() - topic_variance())};
        recipe.topic = static_cast<float>(std::sqrt(topic_variance()));
        if (spec_.router_skew > 0) recipe.shared_by_row = {static_cast<float>(kSharedAmplitude)};
        add("token_embd.weight", types_.embedding(), {spec_.embedding, spec_.vocabulary}, std::move(recipe));
    }

    // A row's part along a direction of width `w` meets the hidden state's part as (row part) * (state part) * w.
    void add_output() {
        WeightRecipe recipe{.deviation = kLogitDeviation / std::sqrt(width())};
        const double state_part = std::sqrt(topic_variance()) / residual_deviation(layers());
        if (spec_.locality > 0) recipe.topic = static_cast<float>(kTopicLogit / (state_part * width()));
        add("output.weight", types_.output(spec_.embedding), {spec_.embedding, spec_.vocabulary}, std::move(recipe));
    }

    void add_layer(uint64_t layer) {
        layer_ = layer;
        add_attention();
        add_vector(in_layer(architecture_.gpt_oss ? "post_attention_norm.weight" : "ffn_norm.weight"), spec_.embedding,
                   {.mean = 1});
        if (spec_.experts > 0)
            add_experts();
        else
            add_feed_forward();
    }

    void add_attention() {
        const uint64_t query = spec_.heads * spec_.head_dim;
        const uint64_t key_value = spec_.kv_heads * spec_.head_dim;
        const double query_gain = architecture_.query_key_norms ? 1 : kQueryGain;
        add_vector(in_layer("attn_norm.weight"), spec_.embedding, {.mean = 1});
        add_matrix(in_layer("attn_q.weight"), Matrix::kQuery, {spec_.embedding, query}, query_gain);
        add_matrix(in_layer("attn_k.weight"), Matrix::kKey, {spec_.embedding, key_value}, 1);
        add_matrix(in_layer("attn_v.weight"), Matrix::kValue, {spec_.embedding, key_value}, 1);
        add_matrix(in_layer("attn_output.weight"), Matrix::kAttentionOutput, {query, spec_.embedding},
                   std::sqrt(kAttentionVariance / layers()));
        add_attention_vectors(query, key_value);
    }

    void add_attention_vectors(uint64_t query, uint64_t key_value) {
        const WeightRecipe small_noise{.deviation = 0.02};
        if (architecture_.query_key_norms) {
            add_vector(in_layer("attn_q_norm.weight"), spec_.head_dim, {.mean = kQueryGain});
            add_vector(in_layer("attn_k_norm.weight"), spec_.head_dim, {.mean = 1});
        }
        if (architecture_.attention_biases) {
            add_vector(in_layer("attn_q.bias"), query, small_noise);
            add_vector(in_layer("attn_k.bias"), key_value, small_noise);
            add_vector(in_layer("attn_v.bias"), key_value, small_noise);
        }
        if (architecture_.gpt_oss) {
            add_vector(in_layer("attn_output.bias"), spec_.embedding, {});
            add_vector(in_layer("attn_sinks.weight"), spec_.heads, {.deviation = 1});
        }
    }

    double down_gain() const { return std::sqrt(kFeedForwardVariance / layers()); }

    void add_feed_forward() {
        add_matrix(in_layer("ffn_gate.weight"), Matrix::kGate, {spec_.embedding, spec_.feed_forward}, 1);
        add_matrix(in_layer("ffn_up.weight"), Matrix::kUp, {spec_.embedding, spec_.feed_forward}, 1);
        add_matrix(in_layer("ffn_down.weight"), Matrix::kDown, {spec_.feed_forward, spec_.embedding}, down_gain());
    }

    void add_experts() {
        const uint64_t experts = spec_.experts, narrow = spec_.embedding, wide = spec_.feed_forward;
        add("blk." + std::to_string(layer_) + ".ffn_gate_inp.weight", named("f32"), {narrow, experts}, router());
        add_matrix(in_layer("ffn_gate_exps.weight"), Matrix::kGate, {narrow, wide, experts}, 1);
        add_matrix(in_layer("ffn_up_exps.weight"), Matrix::kUp, {narrow, wide, experts}, 1);
        add_matrix(in_layer("ffn_down_exps.weight"), Matrix::kDown, {wide, narrow, experts}, down_gain());
        if (architecture_.gpt_oss) add_expert_biases();
    }

    void add_expert_biases() {
        const WeightRecipe small_noise{.deviation = 0.02};
        add_vector(in_layer("ffn_gate_inp.bias"), spec_.experts, {});
        add("blk." + std::to_string(layer_) + ".ffn_gate_exps.bias", named("f32"), {spec_.feed_forward, spec_.experts},
            small_noise);
        add("blk." + std::to_string(layer_) + ".ffn_up_exps.bias", named("f32"), {spec_.feed_forward, spec_.experts},
            small_noise);
        add("blk." + std::to_string(layer_) + ".ffn_down_exps.bias", named("f32"), {spec_.embedding, spec_.experts},
            {});
    }

    WeightRecipe router() const {
        WeightRecipe recipe{.deviation = kRouterDeviation / std::sqrt(width())};
        if (spec_.router_skew == 0) return recipe;
        const double state_part = kSharedAmplitude / residual_deviation(static_cast<double>(layer_) + 0.5);
        for (uint64_t rank : popularity_ranks())
            recipe.shared_by_row.push_back(static_cast<float>(
                -spec_.router_skew * std::log(static_cast<double>(rank) + 1) / (state_part * width())));
        return recipe;
    }

    // Another order of experts in each layer, since popularity is a layer's own in real models.
    std::vector<uint64_t> popularity_ranks() const {
        constexpr uint64_t kRankStream = ~uint64_t{1};
        std::vector<uint64_t> ranks(spec_.experts);
        std::ranges::iota(ranks, uint64_t{0});
        Random random(spec_.seed, kRankStream, layer_);
        for (uint64_t left = ranks.size(); left > 1; --left) std::swap(ranks[left - 1], ranks[random.next() % left]);
        return ranks;
    }

    const SyntheticSpec& spec_;
    const Architecture& architecture_;
    TypeRules types_;
    uint64_t layer_ = 0;
};

Status invalid(std::string_view what) { return fail(ErrorCode::kInvalidArgument, "make-model: {}", what); }

Status check_architecture(const SyntheticSpec& spec) {
    const Architecture* architecture = find_architecture(spec.architecture);
    if (architecture == nullptr) return invalid(std::format("the architecture '{}' is not known", spec.architecture));
    if (spec.experts == 0 && !architecture->dense)
        return invalid(std::format("{} needs experts; give --experts and --top-k", spec.architecture));
    if (spec.experts > 0 && !architecture->experts)
        return invalid(std::format("{} has no experts; leave out --experts", spec.architecture));
    if (spec.experts > 0 && (spec.experts_used == 0 || spec.experts_used > spec.experts))
        return invalid("--top-k must lie between 1 and the number of experts");
    return {};
}

Status check_shape(const SyntheticSpec& spec) {
    constexpr uint64_t kLargest = 1 << 24;  // keeps all products of two within 64 bits
    for (uint64_t extent : {spec.layers, spec.embedding, spec.feed_forward, spec.heads, spec.kv_heads, spec.head_dim,
                            spec.vocabulary, spec.context})
        if (extent == 0 || extent > kLargest) return invalid("every size must be at least 1 and at most 16777216");
    if (spec.layers > 512 || spec.experts > 512) return invalid("libllama takes at most 512 layers and 512 experts");
    if (spec.heads % spec.kv_heads != 0) return invalid("--heads must be a multiple of --kv-heads");
    if (spec.head_dim % 2 != 0) return invalid("--head-dim must be even");
    if (spec.embedding % 32 != 0 || spec.feed_forward % 32 != 0 || spec.heads * spec.head_dim % 32 != 0)
        return invalid("--embd, --ff and heads times --head-dim must be multiples of 32, the smallest quantized block");
    if (find_architecture(spec.architecture)->heads_fill_width && spec.heads * spec.head_dim != spec.embedding)
        return invalid(std::format("{} needs --heads times --head-dim equal to --embd", spec.architecture));
    if (spec.vocabulary < smallest_synthetic_vocabulary())
        return invalid(std::format("--vocab must be at least {}", smallest_synthetic_vocabulary()));
    return {};
}

Status check_weights(const SyntheticSpec& spec) {
    if (!std::ranges::contains(kQuantizations, spec.quantization))
        return invalid(std::format("the quantization '{}' is not known", spec.quantization));
    if (!(spec.router_skew >= 0 && spec.router_skew <= 8)) return invalid("--router-skew must lie between 0 and 8");
    if (!(spec.locality >= 0 && spec.locality <= 0.95)) return invalid("--locality must lie between 0 and 0.95");
    return {};
}

Metadata shape_metadata(const SyntheticSpec& spec, const Architecture& architecture) {
    Metadata metadata;
    const auto set = [&](std::string_view key, Value value) {
        metadata[std::format("{}.{}", architecture.file_name, key)] = std::move(value);
    };
    set("block_count", spec.layers);
    set("context_length", spec.context);
    set("embedding_length", spec.embedding);
    set("feed_forward_length", spec.feed_forward);
    set("vocab_size", spec.vocabulary);
    set("attention.head_count", spec.heads);
    set("attention.head_count_kv", spec.kv_heads);
    set("attention.key_length", spec.head_dim);
    set("attention.value_length", spec.head_dim);
    set("attention.layer_norm_rms_epsilon", 1e-6);
    set("rope.dimension_count", spec.head_dim);
    set("rope.freq_base", 1e6);
    if (architecture.gpt_oss) set("attention.sliding_window", uint64_t{128});
    if (spec.experts == 0) return metadata;
    set("expert_count", spec.experts);
    set("expert_used_count", spec.experts_used);
    if (architecture.file_name != "llama") set("expert_feed_forward_length", spec.feed_forward);
    return metadata;
}

Metadata make_metadata(const SyntheticSpec& spec) {
    const Architecture& architecture = *find_architecture(spec.architecture);
    Metadata metadata = shape_metadata(spec, architecture);
    metadata["general.architecture"] = std::string(architecture.file_name);
    metadata["general.name"] = spec.name;
    metadata["general.quantization_version"] = uint64_t{2};
    metadata["general.description"] =
        std::format("random weights; seed {}, quantization {}, router skew {}, locality {}", spec.seed,
                    spec.quantization, spec.router_skew, spec.locality);
    add_synthetic_tokenizer(metadata, spec.vocabulary);
    return metadata;
}

}  // namespace

std::span<const std::string_view> synthetic_architectures() { return kArchitectureNames; }
std::span<const std::string_view> synthetic_quantizations() { return kQuantizations; }

uint64_t SyntheticModel::tensor_bytes() const {
    return std::transform_reduce(tensors.begin(), tensors.end(), uint64_t{0}, std::plus{},
                                 [](const TensorSpec& tensor) { return tensor.size_bytes(); });
}

Result<SyntheticModel> synthesize(const SyntheticSpec& spec, uint32_t threads) {
    HYPURA_TRY(check_architecture(spec));
    HYPURA_TRY(check_shape(spec));
    HYPURA_TRY(check_weights(spec));
    ModelBuilder builder(spec);
    builder.build();
    SyntheticModel model{make_metadata(spec), builder.tensors, {}};
    auto source = std::make_shared<WeightSource>(spec.seed, spec.embedding, threads);
    model.fill = [source = std::move(source), tensors = std::move(builder.tensors),
                  recipes = std::move(builder.recipes)](size_t index, uint64_t offset_bytes,
                                                        std::span<std::byte> chunk) {
        source->fill(index, tensors[index], recipes[index], offset_bytes, chunk);
    };
    return model;
}

}  // namespace hypura::gguf
