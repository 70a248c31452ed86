#include "server/model_store.h"

#include "base/bytes.h"
#include "server/model_import.h"

#include <openssl/evp.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <format>
#include <set>

namespace hypura::server {
namespace {

namespace fs = std::filesystem;

// ---- names ---------------------------------------------------------------------------------------------------------

bool is_name_character(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '-';
}

std::string lower(std::string_view text) {
    std::string result(text);
    std::ranges::transform(result, result.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return result;
}

// "x-00001-of-00003" -> "x"; empty for a part that is not the first.
std::optional<std::string> without_split_suffix(std::string stem) {
    constexpr size_t kSuffix = std::string_view("-00001-of-00003").size();
    if (stem.size() <= kSuffix) return stem;
    const std::string suffix = stem.substr(stem.size() - kSuffix);
    if (!suffix.starts_with('-') || suffix.substr(6, 4) != "-of-") return stem;
    if (suffix.substr(1, 5) != "00001") return std::nullopt;
    return stem.substr(0, stem.size() - kSuffix);
}

// One path component as part of a name: what a name cannot hold becomes '-'.
std::string as_name(std::string text) {
    std::ranges::replace_if(text, [](char c) { return !is_name_character(c); }, '-');
    return text;
}

std::optional<std::string> name_of_file(const fs::path& relative) {
    const auto stem = without_split_suffix(relative.stem().string());
    if (!stem || stem->empty()) return std::nullopt;
    const size_t at = stem->rfind('@');
    std::string name;
    for (const fs::path& part : relative.parent_path()) name += as_name(part.string()) + "/";
    name += as_name(stem->substr(0, at));
    return name + ":" + (at == std::string::npos ? "latest" : as_name(stem->substr(at + 1)));
}

// ---- facts ---------------------------------------------------------------------------------------------------------

std::string quantization_name(const gguf::ModelFile& file) {
    constexpr std::array kNames = {"F32",    "F16",    "Q4_0",  "Q4_1",    "",       "",       "",         "Q8_0",
                                   "Q5_0",   "Q5_1",   "Q2_K",  "Q3_K_S",  "Q3_K_M", "Q3_K_L", "Q4_K_S",   "Q4_K_M",
                                   "Q5_K_S", "Q5_K_M", "Q6_K",  "IQ2_XXS", "IQ2_XS", "Q2_K_S", "IQ3_XS",   "IQ3_XXS",
                                   "IQ1_S",  "IQ4_NL", "IQ3_S", "IQ3_M",   "IQ2_S",  "IQ2_M",  "IQ4_XS",   "IQ1_M",
                                   "BF16",   "",       "",      "",        "TQ1_0",  "TQ2_0",  "MXFP4_MOE"};
    const auto type = file.find_uint("general.file_type");
    if (type && *type < kNames.size() && *kNames[*type] != '\0') return kNames[*type];
    std::map<std::string, uint64_t> bytes_by_type;
    for (const gguf::TensorInfo& tensor : file.tensors)
        bytes_by_type[std::string(tensor.type.name)] += tensor.size_bytes;
    const auto most = std::ranges::max_element(bytes_by_type, {}, [](const auto& entry) { return entry.second; });
    std::string name = most == bytes_by_type.end() ? "unknown" : most->first;
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    return name;
}

uint64_t count_parameters(const gguf::ModelFile& file) {
    uint64_t count = 0;
    for (const gguf::TensorInfo& tensor : file.tensors)
        count += tensor.shape[0] * tensor.shape[1] * tensor.shape[2] * tensor.shape[3];
    return count;
}

gguf::Metadata without_long_arrays(const gguf::Metadata& metadata) {
    constexpr size_t kMostEntries = 5;
    gguf::Metadata small;
    for (const auto& [key, value] : metadata)
        small[key] = std::visit(
            [](const auto& v) -> gguf::Value {
                if constexpr (
                    requires {
                        v.front().size();
                        v.capacity();
                    } ||
                    requires {
                        v.capacity();
                        v.front();
                    }) {
                    using V = std::decay_t<decltype(v)>;
                    if constexpr (!std::is_same_v<V, std::string>)
                        if (v.size() > kMostEntries) return V{};
                }
                return v;
            },
            value);
    return small;
}

// The texts of the tokens between which a model fills in: by the names that the common families use.
std::vector<std::string> find_infill_tokens(const gguf::Metadata& metadata) {
    const auto entry = metadata.find("tokenizer.ggml.tokens");
    if (entry == metadata.end()) return {};
    const auto* tokens = std::get_if<std::vector<std::string>>(&entry->second);
    if (tokens == nullptr) return {};
    const std::vector<std::vector<std::string>> kFamilies = {{"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},
                                                             {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},
                                                             {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},
                                                             {"▁<PRE>", "▁<SUF>", "▁<MID>"}};
    for (const auto& family : kFamilies)
        if (std::ranges::all_of(family, [&](const std::string& text) { return std::ranges::contains(*tokens, text); }))
            return family;
    return {};
}

bool pools(const gguf::ModelFile& file, const std::string& architecture) {
    constexpr std::string_view kCausal = ".attention.causal";
    const auto pooling = file.find_uint(architecture + ".pooling_type");
    if (pooling && *pooling > 0) return true;
    const auto causal = file.metadata.find(architecture + std::string(kCausal));
    const bool* value = causal == file.metadata.end() ? nullptr : std::get_if<bool>(&causal->second);
    return value != nullptr && !*value;
}

std::string sha256_hex(std::string_view text) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
    unsigned int length = 0;
    EVP_Digest(text.data(), text.size(), bytes.data(), &length, EVP_sha256(), nullptr);
    std::string hex;
    for (unsigned int i = 0; i < length; ++i) hex += std::format("{:02x}", bytes[i]);
    return hex;
}

// Weights of many gigabytes are not read for this: a file is known by its directory, size and time.
std::string digest_of(const gguf::ModelFile& file) {
    std::string text;
    for (const gguf::Part& part : file.parts) text += std::format("{} {}\n", part.size_bytes, part.modified_ns);
    for (const gguf::TensorInfo& tensor : file.tensors)
        text += std::format("{} {} {}\n", tensor.name, tensor.type.name, tensor.file_offset);
    return sha256_hex(text);
}

// Names may share files.
std::string files_of(const gguf::ModelFile& file) {
    std::string text;
    for (const gguf::Part& part : file.parts) text += std::format("{}:{} ", part.device, part.inode);
    return text;
}

std::chrono::system_clock::time_point modified_at(const gguf::ModelFile& file) {
    int64_t newest_ns = 0;
    for (const gguf::Part& part : file.parts) newest_ns = std::max(newest_ns, part.modified_ns);
    return std::chrono::system_clock::time_point(std::chrono::nanoseconds(newest_ns));
}

ModelPointer make_entry(const gguf::ModelFile& file, const std::string& name) {
    auto entry = std::make_shared<ModelEntry>();
    entry->name = name;
    entry->path = file.parts.front().path;
    for (const gguf::Part& part : file.parts) {
        entry->part_paths.push_back(part.path);
        entry->size_bytes += part.size_bytes;
    }
    entry->modified = modified_at(file);
    entry->digest = digest_of(file);
    entry->files = files_of(file);
    entry->shape = gguf::model_shape(file);
    entry->metadata = without_long_arrays(file.metadata);
    entry->parameters = count_parameters(file);
    entry->quantization = quantization_name(file);
    entry->chat_template = file.find_string("tokenizer.chat_template").value_or("");
    entry->family =
        template_family(entry->chat_template, file.find_string("tokenizer.chat_template.tool_use").value_or(""));
    entry->embeds_only = pools(file, entry->shape.architecture);
    entry->infill_tokens = find_infill_tokens(file.metadata);
    return entry;
}

ModelPointer renamed(const ModelPointer& entry, const std::string& name) {
    auto copy = std::make_shared<ModelEntry>(*entry);
    copy->name = name;
    return copy;
}

std::string cache_key(const fs::path& file) {
    struct stat facts{};
    if (::stat(file.c_str(), &facts) != 0) return file.string();
    return std::format("{}\n{}:{}\n{}\n{}.{:09}", file.string(), facts.st_dev, facts.st_ino, facts.st_size,
                       facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec);
}

// ---- second names --------------------------------------------------------------------------------------------------

// Whether nothing is lost when this name goes away: it is not there, is a link, or other names are left.
bool can_be_replaced(const fs::path& file) {
    std::error_code error;
    if (fs::is_symlink(file, error) || !fs::exists(file, error)) return true;
    return fs::hard_link_count(file, error) > 1 && !error;
}

// A name of its own for the same bytes, so that either name may be deleted.
ApiStatus link_file(const std::string& file, const fs::path& link, bool inside) {
    std::error_code error;
    if (fs::equivalent(file, link, error) && !fs::is_symlink(link, error)) return {};
    fs::create_directories(link.parent_path(), error);
    fs::remove(link, error);
    if (inside) fs::create_hard_link(file, link, error);
    if (!inside || error) fs::create_symlink(file, link, error);
    if (error) return refuse(500, "cannot create {}: {}", link.string(), error.message());
    return {};
}

}  // namespace

std::optional<std::string> canonical_name(std::string_view name) {
    for (const std::string_view prefix : {"registry.ollama.ai/library/", "registry.ollama.ai/", "library/"})
        if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
    const size_t slash = name.rfind('/');
    const size_t colon = name.rfind(':');
    const bool tagged = colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash);
    const std::string_view model = name.substr(0, tagged ? colon : name.size());
    const std::string_view tag = tagged ? name.substr(colon + 1) : "latest";
    const auto usable = [](std::string_view text, std::string_view further) {
        return !text.empty() && text.front() != '/' && text.back() != '/' && !text.contains("..") &&
               !text.contains("//") &&
               std::ranges::all_of(text, [&](char c) { return is_name_character(c) || further.contains(c); });
    };
    if (!usable(model, "/") || !usable(tag, "") || name.size() > 255) return std::nullopt;
    return std::string(model) + ":" + std::string(tag);
}

std::string human_count(uint64_t count) {
    struct Unit {
        double size;
        char letter;
    };
    for (const Unit& unit : {Unit{1e12, 'T'}, Unit{1e9, 'B'}, Unit{1e6, 'M'}, Unit{1e3, 'K'}})
        if (static_cast<double>(count) >= unit.size)
            return std::format("{:.1f}{}", static_cast<double>(count) / unit.size, unit.letter);
    return std::format("{}", count);
}

bool ModelEntry::supports(std::string_view capability) const {
    return std::ranges::contains(capabilities(), capability);
}

// A model that generates can embed, too, but clients offer "embedding" models for nothing else: only those say so.
std::vector<std::string> ModelEntry::capabilities() const {
    if (embeds_only) return {"embedding"};
    std::vector<std::string> list = {"completion"};
    if (family.tools != ToolStyle::kNone) list.emplace_back("tools");
    if (!infill_tokens.empty()) list.emplace_back("insert");
    if (family.thinks) list.emplace_back("thinking");
    return list;
}

ModelStore::ModelStore(std::string folder, std::vector<std::string> paths)
    : folder_(std::move(folder)), paths_(std::move(paths)) {}

ModelPointer ModelStore::read(const std::string& file, const std::string& name) {
    std::error_code error;
    const fs::path real = fs::canonical(file, error);
    if (error) return nullptr;
    const std::string key = cache_key(real);
    {
        const std::scoped_lock lock(mutex_);
        if (const auto known = known_.find(key); known != known_.end()) return renamed(known->second, name);
    }
    const auto model = gguf::open_model(real.string());
    const auto entry = model ? make_entry(*model, name) : nullptr;
    const std::scoped_lock lock(mutex_);
    if (entry) known_[key] = entry;
    return entry;
}

std::vector<ModelPointer> ModelStore::scan_folder() {
    std::vector<ModelPointer> models;
    if (folder_.empty()) return models;
    std::error_code error;
    constexpr auto kOptions =
        fs::directory_options::skip_permission_denied | fs::directory_options::follow_directory_symlink;
    for (fs::recursive_directory_iterator at(folder_, kOptions, error), end; !error && at != end; at.increment(error)) {
        constexpr int kDeepest = 3;
        if (at.depth() >= kDeepest) at.disable_recursion_pending();
        const fs::path file = at->path();
        if (file.extension() != ".gguf" || file.filename().string().starts_with("mmproj")) continue;
        const auto name = name_of_file(file.lexically_relative(folder_));
        if (!name) continue;
        if (auto model = read(file.string(), *name)) models.push_back(std::move(model));
    }
    return models;
}

std::vector<ModelPointer> ModelStore::list() {
    std::vector<ModelPointer> models = scan_folder();
    for (const std::string& path : paths_)
        if (const auto name = name_of_file(fs::path(path).filename()))
            if (auto model = read(path, *name)) models.push_back(std::move(model));
    std::ranges::sort(models, {}, [](const ModelPointer& model) { return model->name; });
    const auto repeated = std::ranges::unique(models, {}, [](const ModelPointer& model) { return model->name; });
    models.erase(repeated.begin(), repeated.end());
    return models;
}

ApiResult<ModelPointer> ModelStore::find(std::string_view name) {
    const auto wanted = canonical_name(name);
    if (!wanted) return refuse(400, "invalid model name");
    for (ModelPointer& model : list())
        if (lower(model->name) == lower(*wanted)) return std::move(model);
    // Lists leave out what is no model; whoever asks for it is told why.
    const std::string file = folder_.empty() ? std::string() : part_file_for(*wanted, 0, 1);
    if (std::error_code error; !file.empty() && fs::exists(file, error))
        if (const auto model = gguf::open_model(file); !model) return std::unexpected(ApiError(model.error()));
    return std::unexpected(model_not_found(name));
}

// Where a model of this name is kept: "a/b:c" in DIR/a/b@c.gguf, or in DIR/a/b@c-00001-of-00003.gguf and so on.
std::string ModelStore::part_file_for(std::string_view name, size_t part, size_t parts) const {
    const size_t colon = name.rfind(':');
    const std::string_view tag = name.substr(colon + 1);
    std::string file = folder_ + "/" + std::string(name.substr(0, colon));
    if (tag != "latest") file += "@" + std::string(tag);
    if (parts > 1) file += std::format("-{:05}-of-{:05}", part + 1, parts);
    return file + ".gguf";
}

ApiStatus ModelStore::copy(std::string_view source, std::string_view destination) {
    const auto model = find(source);
    if (!model)
        return model.error().status == 404 ? refuse(404, "model \"{}\" not found", source)
                                           : std::unexpected(model.error());
    const auto name = canonical_name(destination);
    if (!name) return refuse(400, "invalid model name");
    if (folder_.empty()) return refuse(400, "there is no folder of models to copy into: start with --models");
    if (lower(*name) == lower((*model)->name)) return {};
    const std::vector<std::string>& parts = (*model)->part_paths;
    for (size_t i = 0; i < parts.size(); ++i)
        if (!can_be_replaced(part_file_for(*name, i, parts.size())))
            return refuse(400, "model '{}' exists: delete it first", destination);
    for (size_t i = 0; i < parts.size(); ++i)
        HYPURA_TRY(link_file(parts[i], part_file_for(*name, i, parts.size()), lies_inside(parts[i])));
    return {};
}

// Links of names that files lie under are resolved, in the folder's path as well.
bool ModelStore::lies_inside(const std::string& path) const {
    std::error_code error;
    return !folder_.empty() && path.starts_with(fs::weakly_canonical(folder_, error).string() + "/");
}

// Of a split model each part has a link, or only the first, under a plain name. False: there is none.
bool ModelStore::remove_links(const ModelEntry& model) const {
    if (folder_.empty()) return false;
    const size_t parts = model.part_paths.size();
    std::vector<std::string> links = {part_file_for(model.name, 0, 1)};
    for (size_t i = 0; i < parts; ++i) links.push_back(part_file_for(model.name, i, parts));
    std::error_code error;
    std::erase_if(links, [&error](const std::string& link) { return !fs::is_symlink(link, error); });
    for (const std::string& link : links) fs::remove(link, error);
    return !links.empty();
}

ApiStatus ModelStore::remove(std::string_view name) {
    HYPURA_ASSIGN(const ModelPointer model, find(name));
    if (remove_links(*model)) return {};
    std::error_code error;
    if (!std::ranges::all_of(model->part_paths, [this](const std::string& path) { return lies_inside(path); }))
        return refuse(400, "model '{}' lies outside the folder of models: it is not deleted", name);
    for (const std::string& path : model->part_paths)
        if (!fs::remove(path, error)) return refuse(500, "cannot delete {}: {}", path, error.message());
    return {};
}

ApiResult<ModelPointer> ModelStore::import(
    const std::string& source, const std::function<bool(const ModelPointer& model, uint64_t done_bytes)>& progress) {
    const auto file = gguf::open_model(local_path(source));
    if (!file) return std::unexpected(ApiError(file.error()));
    if (folder_.empty()) return refuse(400, "there is no folder of models to copy into: start with --models");
    const auto name = name_of_file(fs::path(file->parts.front().path).filename());
    if (!name) return refuse(400, "invalid model name");
    const ModelPointer model = make_entry(*file, *name);
    uint64_t done_bytes = 0;
    for (const std::string& part : model->part_paths) {
        const std::string target = (fs::path(folder_) / fs::path(part).filename()).string();
        std::error_code error;
        if (fs::equivalent(part, target, error)) continue;
        HYPURA_TRY(copy_file(part, target, [&](uint64_t bytes) {
            done_bytes += bytes;
            return progress(model, done_bytes);
        }));
    }
    return find(*name);
}

}  // namespace hypura::server
