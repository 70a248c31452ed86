// A small working tokenizer: byte-level BPE as GPT-2's, so that any text can be encoded and any token shown.
#pragma once

#include "gguf/model_file.h"

#include <cstdint>

namespace hypura::gguf {

// Bytes, some merges and the special tokens; a smaller vocabulary is not possible.
uint64_t smallest_synthetic_vocabulary();

// Adds the tokenizer.* keys: 256 bytes, merges, ChatML's special tokens, then pseudo-words up to `vocabulary` tokens.
void add_synthetic_tokenizer(Metadata& metadata, uint64_t vocabulary);

}  // namespace hypura::gguf
