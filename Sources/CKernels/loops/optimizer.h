// One pass over weights, gradients and moments.

static void CK_NAME2(adamw, TYPE)(void *w_, const void *g_, void *m_, void *v_, size_t n, double rate_, double beta1_,
                                  double beta2_, double epsilon_, double decay_, double correction1,
                                  double correction2) {
    T *restrict w = w_;
    const T *restrict g = g_;
    T *restrict m = m_;
    T *restrict v = v_;
    const T beta1 = (T)beta1_, beta2 = (T)beta2_, rest1 = (T)(1 - beta1_), rest2 = (T)(1 - beta2_);
    const T keep = (T)(1 - rate_ * decay_), step = (T)(rate_ / correction1);
    const T root = (T)(1 / sqrt(correction2)), epsilon = (T)epsilon_;
    for (size_t i = 0; i < n; i++) {
        const T mi = beta1 * m[i] + rest1 * g[i];
        const T vi = beta2 * v[i] + rest2 * (g[i] * g[i]);
        m[i] = mi;
        v[i] = vi;
        w[i] = keep * w[i] - step * mi / (SQRT(vi) * root + epsilon);
    }
}

static void CK_NAME2(sgd, TYPE)(void *w_, const void *g_, void *v_, size_t n, double rate_, double momentum_,
                                double decay_, int nesterov) {
    T *restrict w = w_;
    const T *restrict g = g_;
    T *restrict v = v_;
    const T rate = (T)rate_, momentum = (T)momentum_, decay = (T)decay_;
    for (size_t i = 0; i < n; i++) {
        const T d = g[i] + decay * w[i];
        const T vi = momentum * v[i] + d;
        v[i] = vi;
        w[i] -= rate * (nesterov ? d + momentum * vi : vi);
    }
}

#undef EXP
#undef ERF
#undef TANH
#undef LOG
#undef SQRT
#undef ONE
#undef HALF
#undef ROOT_TWO_OVER_PI
#undef LANES
