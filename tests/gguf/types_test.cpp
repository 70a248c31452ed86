#include "gguf/types.h"

#include <gtest/gtest.h>

namespace hypura::gguf {
namespace {

TEST(ElementTypes, KnowsBlocks) {
    const auto type = element_type(12);
    ASSERT_TRUE(type);
    EXPECT_EQ(type->name, "q4_K");
    EXPECT_EQ(type->block_elements, 256u);
    EXPECT_EQ(type->block_bytes, 144u);
}

TEST(ElementTypes, RemovedAndFutureNumbersAreUnknown) {
    for (const uint32_t id : {4u, 5u, 31u, 36u, 43u, 1000u, UINT32_MAX}) EXPECT_FALSE(element_type(id)) << id;
}

TEST(ElementTypes, NamesIgnoreCaseAndFindTheSameEntry) {
    EXPECT_EQ(element_type_by_name("Q4_k")->id, 12u);
    EXPECT_FALSE(element_type_by_name("q4"));
    for (uint32_t id = 0; id < 64; ++id) {
        const auto type = element_type(id);
        if (type) {
            EXPECT_EQ(element_type_by_name(type->name)->id, id);
        }
    }
}

}  // namespace
}  // namespace hypura::gguf
