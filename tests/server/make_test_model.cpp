// Copies a GGUF model with another chat template: the conformance tests need a model that knows tools and thinking, and
// the demo model's weights do as well as any. Usage: make_test_model FROM TO TEMPLATE_FILE NAME
#include "gguf/model_file.h"
#include "gguf/writer.h"

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

using namespace hypura;

std::vector<gguf::TensorSpec> specs_of(const gguf::ModelFile& model) {
    std::vector<gguf::TensorSpec> specs;
    for (const gguf::TensorInfo& tensor : model.tensors) {
        std::vector<uint64_t> shape(tensor.shape.begin(), tensor.shape.end());
        while (shape.size() > 1 && shape.back() == 1) shape.pop_back();
        specs.push_back({tensor.name, tensor.type, shape});
    }
    return specs;
}

Status copy_with_template(const std::string& from, const std::string& to, const std::string& chat_template,
                          const std::string& name) {
    HYPURA_ASSIGN(gguf::ModelFile model, gguf::open_model(from));
    model.metadata["tokenizer.chat_template"] = chat_template;
    model.metadata["general.name"] = name;
    std::ifstream source(from, std::ios::binary);
    bool whole = true;
    const auto fill = [&](size_t index, uint64_t offset_bytes, std::span<std::byte> chunk) {
        source.seekg(static_cast<std::streamoff>(model.tensors[index].file_offset + offset_bytes));
        source.read(reinterpret_cast<char*>(chunk.data()), static_cast<std::streamsize>(chunk.size()));
        whole = whole && source.good();
    };
    HYPURA_TRY(gguf::write_model(to, model.metadata, specs_of(model), fill));
    if (!whole) return fail(ErrorCode::kReadFailed, "{}: cannot read all tensors", from);
    return {};
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 5) return 2;
    std::ifstream file(argv[3]);
    const std::string chat_template{std::istreambuf_iterator<char>(file), {}};
    const auto status = copy_with_template(argv[1], argv[2], chat_template, argv[4]);
    if (!status) std::fprintf(stderr, "make_test_model: %s\n", status.error().message.c_str());
    return status ? 0 : 1;
}
