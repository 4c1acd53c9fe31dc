/* A library without rings of its own, that needs one which has them. */
int plugin_use(void);

__attribute__((visibility("default"))) int needs_plugin(void);
int needs_plugin(void)
{
	return plugin_use();
}
