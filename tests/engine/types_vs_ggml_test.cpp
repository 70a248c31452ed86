// Our table of element types against the installed libggml.
#include "gguf/types.h"

#include <ggml.h>
#include <gtest/gtest.h>

namespace hypura {
namespace {

TEST(ElementTypes, AreThoseOfTheInstalledLibggml) {
    uint32_t known = 0;
    for (uint32_t id = 0; id < 256; ++id) {
        const auto ours = gguf::element_type(id);
        if (!ours) continue;
        SCOPED_TRACE(ours->name);
        ++known;
        if (id >= GGML_TYPE_COUNT) continue;  // newer than this libggml
        const auto theirs = static_cast<ggml_type>(id);
        EXPECT_EQ(ours->block_elements, ggml_blck_size(theirs));
        EXPECT_EQ(ours->block_bytes, ggml_type_size(theirs));
        EXPECT_EQ(ours->name, ggml_type_name(theirs));
    }
    EXPECT_GE(known, 30u);
}

TEST(ElementTypes, NoneOfLibggmlIsMissing) {
    for (uint32_t id = 0; id < GGML_TYPE_COUNT; ++id) {
        const auto theirs = static_cast<ggml_type>(id);
        const bool removed = ggml_blck_size(theirs) == 0;
        EXPECT_EQ(gguf::element_type(id).has_value(), !removed) << id << " " << ggml_type_name(theirs);
    }
}

}  // namespace
}  // namespace hypura
