import { defineConfig } from "vite";

export default defineConfig({
  // A library build leaves this to its user, but nothing comes after us: Jupyter runs the bundle as it is.
  define: { "process.env.NODE_ENV": '"production"' },
  build: {
    outDir: "../talaria_nb/static",
    target: "es2022",
    emptyOutDir: false,
    minify: true,
    lib: {
      entry: { session: "src/session.ts", view: "src/view.ts" },
      formats: ["es"],
    },
  },
});
