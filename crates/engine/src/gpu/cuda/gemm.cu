// A product of matrices of bf16 on tensor cores, with sums in single precision: c = a b + bias for each matrix of a batch.
//
// In front of this stand A_ALONG_K (1: a lies as [m, k]; 0: as [k, m]), B_ALONG_K (1: b lies as [n, k]; 0: as [k, n]),
// BN, the columns of a block's tile, 128 or 64, BIASED (1: each matrix has a bias of n numbers), and ROUNDED (1: c is of
// bf16). Whatever runs along memory is a multiple of 8 numbers long, rows of c of 2.
//
// A block makes a tile of BM x BN. Slices of BK of both factors travel through shared memory in three stages, eight numbers
// at a time; such chunks of a row are exchanged by the row's number, so that the eight rows that a warp reads at once lie in
// different banks. A warp has 32 columns, and 64 rows of a wide tile or 32 of a narrow one.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short bf16;

#define BM 128
#define BK 32
#define STAGES 3
#define THREADS 256
#define WARPS_N (BN / 32)
#define WARPS_M (8 / WARPS_N)
#define WM (BM / WARPS_M)
#define MT (WM / 16)
#define A_BYTES (BM * BK * 2)
#define B_BYTES (BN * BK * 2)
#define STAGE_BYTES (A_BYTES + B_BYTES)

// What a causal pattern leaves out.
#define ALL 0          // nothing
#define TO_DIAGONAL 1  // of c what lies right of the diagonal is of no use
#define K_UP_TO_M 2    // a is 0 right of its diagonal
#define K_FROM_M 3     // a is 0 left of its diagonal

struct Info {
    u64 m, n, k, lda, ldb, a_stride, b_stride, causal;
};

// What the hardware does; `emulate.cpp` does it in C++.
#ifndef EMULATED

// Begins to copy 16 bytes into shared memory, of which those behind the first `bytes` become zeros.
__device__ __forceinline__ void begin_copy(u32 to, const bf16* from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes));
}

// What was begun since the last time belongs together.
__device__ __forceinline__ void end_group() {
    asm volatile("cp.async.commit_group;");
}

// Waits for all groups but the last one.
__device__ __forceinline__ void wait_for_groups() {
    asm volatile("cp.async.wait_group 1;" ::: "memory");
}

__device__ __forceinline__ void read(u32 (&four)[4], u32 from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(four[0]), "=r"(four[1]), "=r"(four[2]), "=r"(four[3])
                 : "r"(from)
                 : "memory");
}

__device__ __forceinline__ void read_turned(u32 (&four)[4], u32 from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(four[0]), "=r"(four[1]), "=r"(four[2]), "=r"(four[3])
                 : "r"(from)
                 : "memory");
}

__device__ __forceinline__ void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two numbers rounded, the first in the lower half.
__device__ __forceinline__ u32 rounded(float low, float high) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

#endif

// A slice of rows that run along k: chunk c of row r.
__device__ __forceinline__ u32 along_k(int row, int chunk) {
    return row * (BK * 2) + ((chunk ^ ((row >> 1) & 3)) << 4);
}

// A slice of rows of one k each, `width` numbers long.
template <int width>
__device__ __forceinline__ u32 across_k(int k, int chunk) {
    return k * (width * 2) + ((chunk ^ (k & 7)) << 4);
}

// The part of every slice that a thread copies into shared memory: chunks of 8 numbers at the same places in each slice, so
// that a copy costs little more than its instruction. Slices have `width` rows or columns of a factor.
template <int width, bool is_along_k>
struct Copies {
    static constexpr int CHUNKS = (is_along_k ? BK : width) / 8;  // of a row
    static constexpr int APART = THREADS / CHUNKS;                // rows from one chunk of a thread to its next
    static constexpr int N = width * BK / 8 / THREADS;

    const bf16 *any, *from;  // some number that is there, and the first chunk of the next slice
    u64 row_step, slice_step;
    u32 to;
    int k, k_size;           // of the first chunk of the next slice, and the first that is not there any more
    bool is_there[N];        // as far as rows, or columns, go

    __device__ __forceinline__ Copies(const bf16* factor, u64 ld, int first, int k_first, int size, int k_size)
        : any(factor), row_step(APART * ld), k_size(k_size) {
        const int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
        if constexpr (is_along_k) {
            from = factor + (first + row) * ld + k_first + chunk * 8;
            slice_step = BK;
            to = along_k(row, chunk);
            k = k_first + chunk * 8;
        } else {
            from = factor + (k_first + row) * ld + first + chunk * 8;
            slice_step = BK * ld;
            to = across_k<width>(row, chunk);
            k = k_first + row;
        }
#pragma unroll
        for (int j = 0; j < N; j++) is_there[j] = first + (is_along_k ? row + j * APART : chunk * 8) < size;
    }

    // Begins to copy the next slice to where it lies. Rows that are a multiple of 8 apart have their chunks in one order.
    __device__ __forceinline__ void begin(u32 slice) {
        constexpr u32 ROW_BYTES = CHUNKS * 16;
        static_assert(APART % 8 == 0, "a thread's chunks are exchanged alike");
#pragma unroll
        for (int j = 0; j < N; j++) {
            bool there = is_there[j] && k + (is_along_k ? 0 : j * APART) < k_size;
            begin_copy(slice + to + j * APART * ROW_BYTES, there ? from + j * row_step : any, there ? 16 : 0);
        }
        from += slice_step;
        k += BK;
    }
};

// Two neighbours of c.
#if ROUNDED
typedef u32 Two;
__device__ __forceinline__ Two two(float2 sums) {
    return rounded(sums.x, sums.y);
}
#else
typedef float2 Two;
__device__ __forceinline__ Two two(float2 sums) {
    return sums;
}
#endif

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    gemm(const bf16* __restrict__ a, const bf16* __restrict__ b,
#if BIASED
         const float* __restrict__ bias,
#endif
         Two* __restrict__ c, const __grid_constant__ Info info) {
    __shared__ __align__(128) unsigned char memory[STAGES * STAGE_BYTES];
    const int m = (int)info.m, n = (int)info.n, k = (int)info.k;
    const int n0 = blockIdx.x * BN, m0 = blockIdx.y * BM, causal = (int)info.causal;
    if (causal == TO_DIAGONAL && n0 >= m0 + BM) return;
    int k_first = 0, k_past = k;
    if (causal == K_UP_TO_M) k_past = min(k, m0 + BM);
    if (causal == K_FROM_M) k_first = m0;
    a += blockIdx.z * info.a_stride;
    b += blockIdx.z * info.b_stride;
    c += (u64)blockIdx.z * m * n / 2;

    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int warp_m = warp / WARPS_N, warp_n = warp % WARPS_N;
    const u32 base = (u32)__cvta_generic_to_shared(memory);
    const int n_slices = k_past > k_first ? (k_past - k_first + BK - 1) / BK : 0;
    Copies<BM, A_ALONG_K> of_a(a, info.lda, m0, k_first, m, k);
    Copies<BN, B_ALONG_K> of_b(b, info.ldb, n0, k_first, n, k);
    u32 filled = base, used = base;
    auto after = [&](u32 stage) { return stage == base + (STAGES - 1) * STAGE_BYTES ? base : stage + STAGE_BYTES; };
    auto begin = [&](int slice) {
        if (slice < n_slices) {
            of_a.begin(filled);
            of_b.begin(filled + A_BYTES);
            filled = after(filled);
        }
        end_group();
    };

    float sums[MT][4][4];
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int l = 0; l < 4; l++) sums[i][j][l] = 0.0f;

    begin(0);
    begin(1);
    for (int slice = 0; slice < n_slices; slice++) {
        wait_for_groups();
        __syncthreads();
        // The stage that is filled from here on was used up before this barrier.
        begin(slice + 2);
        const u32 a_at = used, b_at = a_at + A_BYTES;
        used = after(used);
#pragma unroll
        for (int half = 0; half < BK / 16; half++) {
            u32 left[MT][4], right[2][4];
#pragma unroll
            for (int i = 0; i < MT; i++) {
                int row = warp_m * WM + i * 16;
                if (A_ALONG_K) {
                    row += (lane & 7) + ((lane >> 3) & 1) * 8;
                    read(left[i], a_at + along_k(row, half * 2 + (lane >> 4)));
                } else {
                    int at_k = half * 16 + (lane & 7) + (lane >> 4) * 8;
                    int chunk = row / 8 + ((lane >> 3) & 1);
                    read_turned(left[i], a_at + across_k<BM>(at_k, chunk));
                }
            }
#pragma unroll
            for (int j = 0; j < 2; j++) {
                int column = warp_n * 32 + j * 16;
                if (B_ALONG_K) {
                    column += (lane & 7) + (lane >> 4) * 8;
                    read(right[j], b_at + along_k(column, half * 2 + ((lane >> 3) & 1)));
                } else {
                    int at_k = half * 16 + (lane & 7) + ((lane >> 3) & 1) * 8;
                    int chunk = column / 8 + (lane >> 4);
                    read_turned(right[j], b_at + across_k<BN>(at_k, chunk));
                }
            }
#pragma unroll
            for (int i = 0; i < MT; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    multiply(sums[i][j], left[i], right[j / 2][(j & 1) * 2], right[j / 2][(j & 1) * 2 + 1]);
        }
    }

    const int row = m0 + warp_m * WM + lane / 4, column = n0 + warp_n * 32 + (lane & 3) * 2;
#if BIASED
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if (column + j * 8 >= n) break;
        float2 add = *(const float2*)(bias + (u64)blockIdx.z * n + column + j * 8);
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int l = 0; l < 4; l++) sums[i][j][l] += l % 2 ? add.y : add.x;
    }
#endif
    Two* at = c + ((u64)row * n + column) / 2;
#pragma unroll
    for (int i = 0; i < WM / 8; i++) {
        if (row + i * 8 < m)
#pragma unroll
            for (int j = 0; j < 4; j++)
                if (column + j * 8 < n) {
                    const float* sum = sums[i / 2][j] + i % 2 * 2;
                    at[j * 4] = two(make_float2(sum[0], sum[1]));
                }
        at += 4 * n;
    }
}
