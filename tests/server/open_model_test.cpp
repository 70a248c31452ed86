#include "server/open_model.h"

#include "gguf/synthetic.h"
#include "support/temp_dir.h"

#include <gtest/gtest.h>

namespace hypura::server {
namespace {

OpenOptions with_draft_model(const std::string& path) {
    OpenOptions options;
    options.engine.mode = engine::Mode::kStream;
    options.engine.weights_bytes = 8u << 20;
    options.engine.devices = {"none"};
    options.engine.drafts = engine::DraftKind::kModel;
    options.engine.draft_model_path = path;
    options.context_tokens = 256;
    return options;
}

std::string drafts_of(const OpenOptions& options) {
    ModelEntry demo;
    demo.path = HYPURA_DEMO_MODEL;
    const auto opened = open_for_serving(options, demo, 0);
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? opened->engine->report().drafts : "";
}

// One flag for all models of a folder.
TEST(OpenForServing, AModelForDraftsServesThoseOfItsVocabularyAlone) {
    const hypura::test::TempDir dir;
    const auto other = gguf::synthesize({.architecture = "qwen3", .layers = 1, .vocabulary = 512}).value();
    ASSERT_TRUE(gguf::write_model(dir.file("other.gguf"), other.metadata, other.tensors, other.fill));
    EXPECT_EQ(drafts_of(with_draft_model(HYPURA_DEMO_MODEL)), HYPURA_DEMO_MODEL);
    EXPECT_EQ(drafts_of(with_draft_model(dir.file("other.gguf"))), "none");
}

TEST(OpenForServing, AModelForDraftsThatIsNotThereIsAnError) {
    ModelEntry demo;
    demo.path = HYPURA_DEMO_MODEL;
    const auto opened = open_for_serving(with_draft_model("/nowhere/small.gguf"), demo, 0);
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace hypura::server
