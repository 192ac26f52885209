// Runs `gemm.cu` without a GPU and compares it with a plain product. Its threads are contexts of one thread of the
// processor. Those of a warp go on together; a warp goes on until it waits for the others, once the first warp first and
// once the last. Copies into shared memory are made once as they are begun and once when they are waited for.
//
// What is not emulated: time, banks of shared memory, and warps whose threads go apart.

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <vector>

#define EMULATED
#define __device__
#define __global__
#define __forceinline__ inline
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__

struct float2 {
    float x, y;
};
static float2 make_float2(float x, float y) {
    return {x, y};
}
using std::min;

struct Place {
    int x, y, z;
};
static Place threadIdx, blockIdx;
static unsigned char* shared_memory;
static long __cvta_generic_to_shared(void* memory) {
    shared_memory = (unsigned char*)memory;
    return 0;
}

// The threads of a block, and the one that is running.
constexpr int N_THREADS = 256;
static ucontext_t threads[N_THREADS], scheduler;
static int running, n_ended;

// Whether the warp that is running waits for the other ones.
static bool waits;

// Lets the other threads of the warp come to this point, or those of the block.
static void meet() {
    swapcontext(&threads[running], &scheduler);
    threadIdx.x = running;
}
static void __syncthreads() {
    waits = true;
    meet();
}

// Which of the two orders of things is tried.
static bool last_warp_first, copies_at_once;

struct Copy {
    uint32_t to;
    const unsigned short* from;
    int bytes;
};
static std::deque<std::vector<Copy>> groups[N_THREADS];

static void make(Copy copy) {
    memset(shared_memory + copy.to, 0, 16);
    memcpy(shared_memory + copy.to, copy.from, copy.bytes);
}
static void begin_copy(uint32_t to, const unsigned short* from, int bytes) {
    if (copies_at_once) return make({to, from, bytes});
    if (groups[running].empty()) groups[running].emplace_back();
    groups[running].back().push_back({to, from, bytes});
}
static void end_group() {
    if (groups[running].empty()) groups[running].emplace_back();
    groups[running].emplace_back();
}
static void wait_for_groups() {
    // The last one has not ended yet, and the one before it need not be there.
    while (groups[running].size() > 2) {
        for (Copy copy : groups[running].front()) make(copy);
        groups[running].pop_front();
    }
}

// What the threads of a warp show each other.
static uint32_t shown[N_THREADS][6];
static const uint32_t* of_lane(int lane) {
    return shown[running / 32 * 32 + lane];
}

// Four matrices of 8 x 8 numbers of 16 bits, whose rows begin where the lanes 8 i to 8 i + 7 say.
static void read(uint32_t (&four)[4], uint32_t from) {
    shown[running][0] = from;
    meet();
    int lane = running % 32;
    for (int i = 0; i < 4; i++)
        memcpy(&four[i], shared_memory + of_lane(8 * i + lane / 4)[0] + lane % 4 * 4, 4);
    meet();
}
static void read_turned(uint32_t (&four)[4], uint32_t from) {
    shown[running][0] = from;
    meet();
    int lane = running % 32;
    for (int i = 0; i < 4; i++) {
        uint16_t two[2];
        for (int j = 0; j < 2; j++)
            memcpy(&two[j], shared_memory + of_lane(8 * i + lane % 4 * 2 + j)[0] + lane / 4 * 2, 2);
        memcpy(&four[i], two, 4);
    }
    meet();
}

static float single(uint16_t number) {
    uint32_t bits = (uint32_t)number << 16;
    float single;
    memcpy(&single, &bits, 4);
    return single;
}
static uint16_t to_bf16(float number) {
    uint32_t bits;
    memcpy(&bits, &number, 4);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static uint32_t rounded(float low, float high) {
    return to_bf16(low) | (uint32_t)to_bf16(high) << 16;
}
static float half_of(uint32_t two, int which) {
    return single(which ? two >> 16 : two & 0xffff);
}

// c += a b of 16 x 16 and 16 x 8 numbers, each lane with its own of them.
static void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    memcpy(shown[running], a, 16);
    shown[running][4] = b0, shown[running][5] = b1;
    meet();
    int lane = running % 32;
    for (int i = 0; i < 4; i++) {
        int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        float sum = 0;
        for (int k = 0; k < 16; k++) {
            uint32_t left = of_lane(row % 8 * 4 + k % 8 / 2)[row / 8 + k / 8 * 2];
            uint32_t right = of_lane(column * 4 + k % 8 / 2)[4 + k / 8];
            sum += half_of(left, k % 2) * half_of(right, k % 2);
        }
        c[i] += sum;
    }
    meet();
}

#include GEMM

// One product: its sizes, whether it is causal, and what the kernel makes of it.
struct Product {
    int batch, m, n, k, causal;
};

static std::vector<uint16_t> a, b;
static std::vector<float> bias;
static std::vector<unsigned char> c;
static Info info;

static void thread() {
    threadIdx.x = running;
    gemm(a.data(), b.data(),
#if BIASED
         bias.data(),
#endif
         (Two*)c.data(), info);
    n_ended++;
}

static void run_block(int x, int y, int z) {
    static std::vector<std::vector<char>> stacks(N_THREADS, std::vector<char>(1 << 16));
    blockIdx = {x, y, z}, n_ended = 0;
    for (int i = 0; i < N_THREADS; i++) {
        groups[i].clear();
        getcontext(&threads[i]);
        threads[i].uc_stack.ss_sp = stacks[i].data(), threads[i].uc_stack.ss_size = stacks[i].size();
        threads[i].uc_link = &scheduler;
        makecontext(&threads[i], thread, 0);
    }
    // All threads meet equally often, so that those of a warp end in the same turn, and all warps in the same round.
    while (n_ended < N_THREADS)
        for (int i = 0; i < N_THREADS / 32; i++) {
            int first = 32 * (last_warp_first ? N_THREADS / 32 - 1 - i : i), n_before = n_ended;
            waits = false;
            while (!waits && n_ended == n_before)
                for (running = first; running < first + 32; running++) swapcontext(&scheduler, &threads[running]);
        }
}

// Numbers of a few bits, so that single precision adds them up without rounding.
static uint16_t small(unsigned i, unsigned salt) {
    return to_bf16((int)((i * 2654435761u + salt * 40503u) >> 28) - 7);
}

static float made(const Product& p, int z, int row, int column) {
    size_t at = ((size_t)z * p.m + row) * p.n + column;
#if ROUNDED
    return single(((uint16_t*)c.data())[at]);
#else
    return ((float*)c.data())[at];
#endif
}

// Whether a number of c is of use, and whether one of a counts.
static bool of_use(const Product& p, int row, int column) {
    return p.causal != TO_DIAGONAL || column <= row;
}
static bool counts(const Product& p, int row, int k) {
    return !(p.causal == K_UP_TO_M && k > row) && !(p.causal == K_FROM_M && k < row);
}

static long wrong(const Product& p) {
    auto padded = [](int n) { return (n + 7) / 8 * 8; };
    const int lda = padded(A_ALONG_K ? p.k : p.m), ldb = padded(B_ALONG_K ? p.k : p.n);
    const size_t a_each = (size_t)lda * (A_ALONG_K ? p.m : p.k), b_each = (size_t)ldb * (B_ALONG_K ? p.n : p.k);
    a.assign(p.batch * a_each, 0x7fc0), b.assign(p.batch * b_each, 0x7fc0);
    bias.assign((size_t)p.batch * p.n, 0), c.assign((size_t)p.batch * p.m * p.n * 4, 0xff);
    auto a_at = [&](int z, int row, int k) -> uint16_t& {
        return a[z * a_each + (A_ALONG_K ? (size_t)row * lda + k : (size_t)k * lda + row)];
    };
    auto b_at = [&](int z, int k, int column) -> uint16_t& {
        return b[z * b_each + (B_ALONG_K ? (size_t)column * ldb + k : (size_t)k * ldb + column)];
    };
    for (int z = 0; z < p.batch; z++) {
        for (int row = 0; row < p.m; row++)
            for (int k = 0; k < p.k; k++)
                a_at(z, row, k) = counts(p, row, k) ? small((z * p.m + row) * p.k + k, 1) : 0;
        for (int k = 0; k < p.k; k++)
            for (int column = 0; column < p.n; column++)
                b_at(z, k, column) = small((z * p.k + k) * p.n + column, 2);
        for (int column = 0; column < p.n; column++) bias[z * p.n + column] = (z + 1) * 1000 + column;
    }
    info = Info{(u64)p.m, (u64)p.n,     (u64)p.k, (u64)lda, (u64)ldb, a_each, b_each, (u64)p.causal};
    for (int z = 0; z < p.batch; z++)
        for (int y = 0; y < (p.m + BM - 1) / BM; y++)
            for (int x = 0; x < (p.n + BN - 1) / BN; x++) run_block(x, y, z);
    long n_wrong = 0;
    for (int z = 0; z < p.batch; z++)
        for (int row = 0; row < p.m; row++)
            for (int column = 0; column < p.n; column++) {
                if (!of_use(p, row, column)) continue;
                float sum = BIASED ? bias[z * p.n + column] : 0;
                for (int k = 0; k < p.k; k++) sum += single(a_at(z, row, k)) * single(b_at(z, k, column));
                float expected = ROUNDED ? single(to_bf16(sum)) : sum;
                float got = made(p, z, row, column);
                n_wrong += !(got == expected);
            }
    return n_wrong;
}

int main() {
    const Product products[] = {
        {1, 128, BN, 32, ALL},         {1, 128, BN, 160, ALL},       {2, 136, 72, 40, ALL},
        {1, 8, 8, 8, ALL},             {3, 264, 136, 8, ALL},        {2, 256, 256, 64, TO_DIAGONAL},
        {2, 264, 64, 264, K_UP_TO_M},  {2, 264, 64, 264, K_FROM_M},  {1, 136, 10, 72, ALL},
    };
    int n_failed = 0;
    for (const Product& p : products) {
        // What runs along memory is a multiple of 8 numbers.
        if (!B_ALONG_K && p.n % 8) continue;
        for (int order = 0; order < 2; order++) {
            last_warp_first = copies_at_once = order;
            if (long n = wrong(p)) {
                const char* what = "%d x [%d, %d] x [%d, %d], causal %d, order %d: %ld wrong\n";
                printf(what, p.batch, p.m, p.k, p.k, p.n, p.causal, order, n);
                n_failed++;
            }
        }
    }
    return n_failed ? 1 : 0;
}
