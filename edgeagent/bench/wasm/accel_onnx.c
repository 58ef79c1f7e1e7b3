/* Input: how many pictures and a seed (u32 each). Classifies pictures of 3 x 96 x 96 with the ONNX model "picture" of the
 * node, through wasi-nn. Returns the class of each picture as I64. */
#include "accel_work.h"

EDGE_ALLOCATOR

enum { EDGE_CLASSES = 10, EDGE_PIXELS = 96, EDGE_NN_F32 = 1 };

/* wasi_ephemeral_nn, preview 1. */
struct edge_tensor {
  const uint32_t *sizes;
  uint32_t rank;
  uint32_t type;
  const void *data;
  uint32_t bytes;
};

#define EDGE_NN(name) EDGE_IMPORT("wasi_ephemeral_nn", name)
EDGE_NN("load_by_name") int32_t edge_nn_load(const char *name, uint32_t length, uint32_t *graph);
EDGE_NN("init_execution_context") int32_t edge_nn_init(uint32_t graph, uint32_t *context);
EDGE_NN("set_input") int32_t edge_nn_input(uint32_t context, uint32_t index, const struct edge_tensor *tensor);
EDGE_NN("compute") int32_t edge_nn_compute(uint32_t context);
EDGE_NN("get_output")
int32_t edge_nn_output(uint32_t context, uint32_t index, void *data, uint32_t room, uint32_t *bytes);

static void done(int32_t error, const char *what) {
  if (error != 0) {
    edge_fail(what);
  }
}

EDGE_HANDLER(input, length) {
  const uint32_t pictures = accel_u32(input, length, 0, 1), seed = accel_u32(input, length, 1, 1);
  if (pictures == 0 || pictures > 256) {
    edge_fail("there are not 1 to 256 pictures");
  }
  const uint32_t sizes[4] = {pictures, 3, EDGE_PIXELS, EDGE_PIXELS};
  const size_t count = (size_t)pictures * 3 * EDGE_PIXELS * EDGE_PIXELS;
  const struct edge_tensor shown = {sizes, 4, EDGE_NN_F32, accel_numbers(seed, count), (uint32_t)(count * sizeof(float))};
  float *scores = accel_floats((size_t)pictures * EDGE_CLASSES);
  int64_t *classes = (int64_t *)edge_take_array(pictures, sizeof(int64_t));
  uint32_t graph, context, bytes;
  done(edge_nn_load("picture", 7, &graph), "there is no model picture");
  done(edge_nn_init(graph, &context), "no context");
  done(edge_nn_input(context, 0, &shown), "the model takes other pictures");
  done(edge_nn_compute(context), "the model failed");
  done(edge_nn_output(context, 0, scores, pictures * EDGE_CLASSES * sizeof(float), &bytes), "no scores");
  for (uint32_t i = 0; i < pictures; ++i) {
    const float *of = scores + (size_t)i * EDGE_CLASSES;
    for (int64_t k = 1; k < EDGE_CLASSES; ++k) {
      classes[i] = of[k] > of[classes[i]] ? k : classes[i];
    }
  }
  return edge_reply(classes, pictures * sizeof(int64_t));
}
